-- A person of Telegram who is a user, a bot that was polled, and a source that hears one person only.
INSERT INTO telegram_links (telegram_user_id, user_id, linked_at) SELECT 4711, id, now() FROM users LIMIT 1;
INSERT INTO telegram_offsets (bot_id, next_update_id, updated_at) VALUES ('8123456789', 1001, now());
UPDATE signal_sources SET telegram_user_ids = '{4711}';
