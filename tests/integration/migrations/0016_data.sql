-- A viewer who was granted one account, a call whose answer is kept, and a user who is gone.
INSERT INTO users (id, email, name, role, password_hash, created_at, updated_at)
    VALUES ('00000000-0000-0000-0000-000000000161', 'V@example.org', 'V', 'VIEWER', 'hash', now(), now());
INSERT INTO users (id, email, name, role, password_hash, disabled, created_at, updated_at, deleted_at)
    VALUES ('00000000-0000-0000-0000-000000000162', 'v@example.org', 'gone', 'TRADER', 'hash', true, now(), now(), now());
INSERT INTO read_grants VALUES ('00000000-0000-0000-0000-000000000163', '00000000-0000-0000-0000-000000000161',
    '00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002', 'user:x', now());
INSERT INTO idempotency_keys VALUES ('00000000-0000-0000-0000-000000000164', '00000000-0000-0000-0000-000000000001', 'k', '\x01', '\x02', now());
