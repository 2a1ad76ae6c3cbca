INSERT INTO kill_certificates (id, scope, tripped_at, outcome, content, signature, created_at)
    VALUES ('00000000-0000-0000-0000-000000000131', 'global', now(), 'FLAT_VERIFIED', '{}', '\x00', now());
