-- A key of the deployment that seals, one that only opens, and an account whose secret is under the first.
INSERT INTO data_keys (id, user_id, purpose, made_under, is_active) VALUES
    ('\x0000000000000001', '00000000-0000-0000-0000-000000000000', 'data', '\x00000001', true),
    ('\x0000000000000002', '00000000-0000-0000-0000-000000000000', 'data', '\x00000001', false);
INSERT INTO data_key_wraps (key_id, kek_id, wrapped) VALUES ('\x0000000000000001', '\x00000001', '\x02');
UPDATE kite_accounts SET api_secret = '\x02000000010000000000000001000000000000000000000000' WHERE id = '00000000-0000-0000-0000-000000000002';
DO $$
BEGIN
    ASSERT (SELECT api_secret_key FROM kite_accounts WHERE id = '00000000-0000-0000-0000-000000000002') = '\x0000000000000001';
END $$;
