-- Rows in every table of migration 0001, so that each later migration is tried on a database in use.
INSERT INTO users VALUES ('00000000-0000-0000-0000-000000000001', 'A@example.org', 'A', 'ADMIN', 'hash', 0, false, now(), now());
INSERT INTO refresh_tokens (id, family_id, user_id, token_hash, issued_at, expires_at)
    VALUES ('00000000-0000-0000-0000-000000000011', '00000000-0000-0000-0000-000000000012', '00000000-0000-0000-0000-000000000001', '\x01', now(), now());
INSERT INTO kite_accounts (id, user_id, label, broker, capital, status, api_key, created_at, updated_at)
    VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', 'paper', 'paper', 1000000, 'ACTIVE', 'key', now(), now());
INSERT INTO strategies (id, user_id, name, created_at, updated_at)
    VALUES ('00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000001', 'default', now(), now());
INSERT INTO strategy_accounts VALUES ('00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000002', 'multiplier', 1);
INSERT INTO signal_sources (id, user_id, strategy_id, type, name, created_at, updated_at)
    VALUES ('00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000003', 'sheets', 's', now(), now());
INSERT INTO trade_intents (id, source_id, strategy_id, user_id, idempotency_key, position, body_sha256, symbol, exchange, transaction_type, quantity, order_type, product_type, validity, variety, status, received_at, updated_at)
    VALUES ('00000000-0000-0000-0000-000000000005', '00000000-0000-0000-0000-000000000004', '00000000-0000-0000-0000-000000000003', '00000000-0000-0000-0000-000000000001', 'k', 0, '\x00', 'INFY', 'NSE', 'BUY', 10, 'MARKET', 'MIS', 'DAY', 'regular', 'EXECUTED', now(), now());
INSERT INTO intent_events (intent_id, at, event) VALUES ('00000000-0000-0000-0000-000000000005', now(), 'EXECUTED');
INSERT INTO orders (id, intent_id, account_id, user_id, strategy_id, exchange, symbol, transaction_type, quantity, order_type, product_type, validity, variety, status, broker_order_id, tag, attempt, epoch, trading_day, filled_quantity, average_price, deadline, submitting_at, created_at, updated_at)
    VALUES ('00000000-0000-0000-0000-000000000006', '00000000-0000-0000-0000-000000000005', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000003', 'NSE', 'INFY', 'BUY', 10, 'MARKET', 'MIS', 'DAY', 'regular', 'COMPLETE', '2411', 'T000000000000000001', 1, 1, '2026-11-23', 10, 1500.05, now(), now(), now(), now());
INSERT INTO order_events (order_id, at, from_status, to_status, filled_quantity) VALUES ('00000000-0000-0000-0000-000000000006', now(), 'OPEN', 'COMPLETE', 10);
INSERT INTO fills VALUES ('00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000006', 't1', '2411', 'NSE', 'INFY', 'MIS', 'BUY', 10, 1500.05, false, now());
INSERT INTO positions VALUES ('00000000-0000-0000-0000-000000000002', 'NSE', 'INFY', 'MIS', '2026-11-23', 10, 0, 10, 15000.5, 0, 0, 10, 15000.5, 0, 0, 1490, 1500, 1, now());
INSERT INTO risk_limits VALUES ('00000000-0000-0000-0000-000000000007', '00000000-0000-0000-0000-000000000001', NULL, '{"maxOrderQuantity": 100}', now(), now());
INSERT INTO system_flags VALUES ('killswitch:global', '{"state": "ARMED"}', 1, now());
INSERT INTO audit_logs VALUES (1, now(), 'system', 'TESTED', 's', '{}', '\x00', '\x01');
INSERT INTO journal_cursor (epoch, position, updated_at) VALUES ('00000000-0000-0000-0000-000000000008', '1-1', now());
INSERT INTO engine_lease (epoch, holder, renewed_at, released) VALUES (1, 'h', now(), true);
INSERT INTO dead_letters VALUES ('00000000-0000-0000-0000-000000000009', 'signal', 'WAITING', '\x00', 'e', 1, now(), now());
