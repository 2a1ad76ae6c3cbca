-- An alert of an account that was raised three times and acknowledged, and one of nobody's that is open.
INSERT INTO alerts (id, code, subject, text, severity, first_at, last_at, count, user_id, told_at, acked_at, acked_by)
    SELECT '00000000-0000-0000-0000-000000002201', 'FEED_DOWN', 'account:x', 'FEED_DOWN: gone', 'warning', now(), now(), 3,
           id, now(), now(), 'user:x' FROM users LIMIT 1;
INSERT INTO alerts (id, code, subject, text, severity, first_at, last_at, count)
    VALUES ('00000000-0000-0000-0000-000000002202', 'STORE_AWAY', 'ledger', 'STORE_AWAY: gone', 'critical', now(), now(), 1);
