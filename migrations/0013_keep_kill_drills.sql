-- Drills of the kill switch: run on a schedule or asked for, on an exchange and an engine of their own.

CREATE TABLE kill_drills (
    id          uuid PRIMARY KEY,
    due_at      timestamptz UNIQUE,              -- of the schedule; null for one that was asked for
    asked_by    text NOT NULL,
    started_at  timestamptz NOT NULL,
    ended_at    timestamptz,                     -- null while it runs
    verdict     text CHECK (verdict IN ('PASS', 'FAIL', 'NOT_RUN')),
    why         text NOT NULL DEFAULT '',
    report      text,                            -- JSON, as the drill printed it
    CHECK ((ended_at IS NULL) = (verdict IS NULL))
);
CREATE INDEX kill_drills_newest ON kill_drills (started_at DESC, id DESC);
CREATE INDEX kill_drills_running ON kill_drills (id) WHERE ended_at IS NULL;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE ON kill_drills TO engine_app;
    END IF;
END $$;
