-- The trigger that keeps stop and target of an entry.
INSERT INTO gtts (id, entry_id, account_id, user_id, exchange, symbol, transaction_type, product_type, quantity, stop_trigger, stop_price, target_trigger, target_price, last_price, status, trigger_id, unit, unit_quantity, attempt, submitting_at, created_at, updated_at)
    VALUES ('00000000-0000-0000-0000-000000000081', '00000000-0000-0000-0000-000000000017', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'NSE', 'SBIN', 'SELL', 'CNC', 5, 800, 796, 840, 840, 815, 'ACTIVE', '123', 1, 5, 1, now(), now(), now());
DO $$
BEGIN
    BEGIN
        INSERT INTO gtts (id, entry_id, account_id, user_id, exchange, symbol, transaction_type, product_type, quantity, stop_trigger, stop_price, last_price, status, trigger_id, unit, unit_quantity, attempt, submitting_at, created_at, updated_at)
            VALUES ('00000000-0000-0000-0000-000000000082', '00000000-0000-0000-0000-000000000017', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'NSE', 'SBIN', 'SELL', 'CNC', 5, 800, 796, 815, 'ACTIVE', '123', 2, 5, 1, now(), now(), now());
        RAISE EXCEPTION 'two rows have one trigger of the broker';
    EXCEPTION WHEN unique_violation THEN NULL;
    END;
END $$;
