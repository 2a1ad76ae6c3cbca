INSERT INTO user_factors (user_id, seed, created_at, confirmed_at)
    VALUES ('00000000-0000-0000-0000-000000000001', '\x01', now(), now());
INSERT INTO recovery_codes (user_id, code_hash, created_at) VALUES ('00000000-0000-0000-0000-000000000001', '\x01', now());
INSERT INTO api_tokens (id, user_id, name, token_hash, scopes, created_at, expires_at)
    VALUES ('00000000-0000-0000-0000-0000000000e1', '00000000-0000-0000-0000-000000000001', 'bot', '\x01', '{TRADE}', now(), now());
