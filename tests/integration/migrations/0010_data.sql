-- A strategy that waits for a person and tears down what tore; an account sized by risk under caps; an intent that waits.
UPDATE strategies SET approval = 'manual', approval_ttl_s = 120, approval_price_move_pct = 2.5, group_policy = 'unwind',
    group_deadline_s = 20, entry_start = '09:20', entry_end = '15:00', square_off_at = '15:10';
UPDATE strategy_accounts SET sizing_mode = 'risk_pct', max_quantity = 100, max_value = 50000;
UPDATE trade_intents SET position_size = -10, seen_price = 815.05, expires_at = now(), approved_at = now();
DO $$
BEGIN
    BEGIN
        UPDATE strategies SET group_policy = 'guess';
        RAISE EXCEPTION 'a policy that nobody knows was kept';
    EXCEPTION WHEN check_violation THEN NULL;
    END;
    BEGIN
        UPDATE strategy_accounts SET max_quantity = 0;
        RAISE EXCEPTION 'a cap of nothing was kept';
    EXCEPTION WHEN check_violation THEN NULL;
    END;
END $$;
