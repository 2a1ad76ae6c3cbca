-- A position closed by the engine, beside an order of the same instrument whose outcome nobody knows; what it came to.
INSERT INTO orders (id, account_id, user_id, exchange, symbol, transaction_type, quantity, order_type, product_type, validity, variety, status, tag, attempt, epoch, trading_day, deadline, submitting_at, created_at, updated_at, origin)
    VALUES ('00000000-0000-0000-0000-000000000131', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'NSE', 'FLATTEN', 'SELL', 5, 'MARKET', 'MIS', 'DAY', 'regular', 'UNKNOWN', 'FLATTEN1', 1, 1, current_date, now(), now(), now(), now(), 'ENGINE'),
           ('00000000-0000-0000-0000-000000000132', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'NSE', 'FLATTEN', 'SELL', 5, 'MARKET', 'MIS', 'DAY', 'regular', 'SUBMITTING', 'FLATTEN2', 1, 1, current_date, now(), now(), now(), now(), 'SQUARE_OFF');
INSERT INTO kill_certificates (id, scope, tripped_at, outcome, content, signature, created_at)
    VALUES ('00000000-0000-0000-0000-000000000133', 'global', now(), 'FLAT_VERIFIED', '{}', '\x00', now());
