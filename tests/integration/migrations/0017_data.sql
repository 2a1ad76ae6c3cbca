-- The source of migration 0001 in the grace of a rotation, with checks of its own, and what was heard of it.
UPDATE signal_sources SET old_api_key_hash = '\x01', old_secret = '\x01', old_until = now(), expect_every_s = 600,
    checks = '{"max_order_quantity": 100}', strict_replay = true WHERE id = '00000000-0000-0000-0000-000000000004';
INSERT INTO source_watch (source_id, heard_at, last_signal_at, last_sequence, missing, silent_since, updated_at)
    VALUES ('00000000-0000-0000-0000-000000000004', now(), now(), 12, '[[3, 4]]', now(), now());
