-- An order placed by hand, as the engine adopts it; the one of before this migration is the engine's own.
INSERT INTO orders (id, account_id, user_id, exchange, symbol, transaction_type, quantity, order_type, product_type, validity, variety, status, broker_order_id, tag, attempt, epoch, trading_day, filled_quantity, average_price, deadline, created_at, updated_at, origin)
    VALUES ('00000000-0000-0000-0000-000000000016', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'NSE', 'SBIN', 'SELL', 5, 'LIMIT', 'MIS', 'DAY', 'regular', 'OPEN', '2412', 'EXTERNAL:2412:2026-11-23:00000000', 0, 1, '2026-11-23', 0, 0, now(), now(), now(), 'EXTERNAL');
DO $$
BEGIN
    ASSERT (SELECT origin FROM orders WHERE id = '00000000-0000-0000-0000-000000000006') = 'ENGINE';
END $$;
