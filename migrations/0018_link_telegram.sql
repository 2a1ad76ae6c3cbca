-- Telegram as a control: which person of Telegram is which user of the engine, how far polling has come, and who may
-- signal in the chats of a source.

CREATE TABLE telegram_links (
    telegram_user_id bigint PRIMARY KEY CHECK (telegram_user_id > 0),  -- the id of the private chat with him as well
    user_id          uuid NOT NULL UNIQUE REFERENCES users,
    linked_at        timestamptz NOT NULL
);

-- One row for each bot that was ever polled: the first update that was not handled yet.
CREATE TABLE telegram_offsets (
    bot_id         text PRIMARY KEY,            -- the number before the colon of the bot's token
    next_update_id bigint NOT NULL,
    updated_at     timestamptz NOT NULL         -- Telegram numbers anew after a week of silence
);

-- Null or empty: everybody in the source's chats.
ALTER TABLE signal_sources ADD COLUMN telegram_user_ids bigint[];

SELECT engine_wall('telegram_links', 'user_id = ANY ((SELECT engine_ids(''engine.user_id''))::uuid[])');

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON telegram_links TO engine_app;
        GRANT SELECT, INSERT, UPDATE ON telegram_offsets TO engine_app;
    END IF;
END $$;
