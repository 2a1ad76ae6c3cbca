-- Dead letters say what they are and what a person decided; entries of the journal are counted before they are
-- handled, so that one that ends the engine each time is set aside.

ALTER TABLE dead_letters
    -- DAMAGED: not readable. POISON: ended the engine again and again. UNRECORDED: the store took not even its
    -- failure. PARKED: an exit that came too late to be sent without asking a person
    ADD COLUMN kind       text NOT NULL DEFAULT 'DAMAGED' CHECK (kind IN ('DAMAGED', 'POISON', 'UNRECORDED', 'PARKED')),
    ADD COLUMN subject    text NOT NULL DEFAULT '',
    ADD COLUMN decided_by text,
    ADD COLUMN decided_at timestamptz,
    ADD COLUMN tried_at   timestamptz,              -- a start began to take it in
    ADD COLUMN taken_at   timestamptz;              -- it has become intents
UPDATE dead_letters SET taken_at = updated_at WHERE status = 'REQUEUED';
CREATE INDEX dead_letters_newest ON dead_letters (created_at DESC, id DESC);
CREATE INDEX dead_letters_waiting ON dead_letters (queue) WHERE status = 'WAITING';

CREATE TABLE journal_attempts (
    epoch      uuid NOT NULL,
    position   text NOT NULL,
    attempts   integer NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (epoch, position)
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON journal_attempts TO engine_app;
        -- what gave up stays on the record
        REVOKE DELETE ON dead_letters FROM engine_app;
    END IF;
END $$;
