-- A book of a strategy, a round trip, and what a day came to; the position of before is the hand's.
DO $$
BEGIN
    ASSERT (SELECT quantity FROM strategy_positions WHERE symbol = 'INFY' AND book = '00000000-0000-0000-0000-000000000000') = 10;
    ASSERT (SELECT trip_value FROM strategy_positions WHERE symbol = 'INFY') = -15000.5;
END $$;
INSERT INTO strategy_positions VALUES ('00000000-0000-0000-0000-000000000002', 'NSE', 'INFY', 'MIS', '00000000-0000-0000-0000-000000000003', '2026-11-23', 5, 0, 5, 7500, 0, 0, 5, 7500, 0, 0, 0, 1500, 1, 2.5, -7500, 2.5, now());
INSERT INTO round_trips (account_id, book, exchange, symbol, product_type, trading_day, result, charges, ended_at)
    VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000003', 'NSE', 'SBIN', 'MIS', '2026-11-23', -12.5, 2.5, now());
INSERT INTO day_results VALUES ('00000000-0000-0000-0000-000000000001', '2026-11-23', 'user', -10, 5, 2.5, 40, 1, 1000000, now());
UPDATE kite_accounts SET capital_from = 'BROKER', capital_read_at = now() WHERE id = '00000000-0000-0000-0000-000000000002';
