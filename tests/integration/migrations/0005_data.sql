-- An entry with its attached stop; the orders of before this migration are entries without exits.
INSERT INTO orders (id, account_id, user_id, exchange, symbol, transaction_type, quantity, order_type, product_type, validity, variety, status, tag, attempt, epoch, trading_day, deadline, created_at, updated_at, stop_loss, target, options)
    VALUES ('00000000-0000-0000-0000-000000000017', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'NSE', 'SBIN', 'BUY', 5, 'LIMIT', 'MIS', 'DAY', 'regular', 'COMPLETE', 'AA17', 1, 1, '2026-11-23', now(), now(), now(), 800, 840, '{"exits":"orders"}');
INSERT INTO orders (id, account_id, user_id, exchange, symbol, transaction_type, quantity, order_type, product_type, trigger_price, validity, variety, status, tag, attempt, epoch, trading_day, deadline, created_at, updated_at, role, parent_id)
    VALUES ('00000000-0000-0000-0000-000000000018', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'NSE', 'SBIN', 'SELL', 5, 'SL-M', 'MIS', 800, 'DAY', 'regular', 'TRIGGER_PENDING', 'AA18', 1, 1, '2026-11-23', now(), now(), now(), 'STOP', '00000000-0000-0000-0000-000000000017');
DO $$
BEGIN
    ASSERT (SELECT role FROM orders WHERE id = '00000000-0000-0000-0000-000000000006') = 'ENTRY';
    ASSERT (SELECT market_protection FROM kite_accounts LIMIT 1) = -1;
END $$;
