-- Sources: two keys during a rotation, checks of a source's own, and what was heard of it, to notice signals that
-- never came.

ALTER TABLE signal_sources
    ADD COLUMN old_api_key_hash bytea,           -- SHA-256 of the key before the last rotation
    ADD COLUMN old_secret       bytea,           -- AES-256-GCM envelope
    ADD COLUMN old_until        timestamptz,     -- until then the old pair is believed too
    ADD COLUMN checks           jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN expect_every_s   integer CHECK (expect_every_s > 0),
    ADD COLUMN strict_replay    boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT signal_sources_old_keys CHECK (
        (old_until IS NULL) = (old_secret IS NULL) AND (old_until IS NULL) = (old_api_key_hash IS NULL));

CREATE TABLE source_watch (
    source_id      uuid PRIMARY KEY REFERENCES signal_sources,
    heard_at       timestamptz,                  -- a signal, a heartbeat or a list of rows
    last_signal_at timestamptz,
    last_sequence  bigint CHECK (last_sequence >= 0),
    missing        jsonb NOT NULL DEFAULT '[]',  -- [[first, last], ...] of the numbers that never came
    silent_since   timestamptz,
    updated_at     timestamptz NOT NULL
);

SELECT engine_wall('source_watch', 'EXISTS (SELECT FROM signal_sources s WHERE s.id = source_watch.source_id)');

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE ON source_watch TO engine_app;
    END IF;
END $$;
