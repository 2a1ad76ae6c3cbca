-- The list of alerts: what was raised, how often, whom it was told and who acknowledged it. Bounded by the engine, which
-- deletes what is old; the audit log has every alert as well and keeps it.

CREATE TABLE alerts (
    id          uuid PRIMARY KEY,
    code        text NOT NULL,
    subject     text NOT NULL,
    text        text NOT NULL,
    severity    text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    count       integer NOT NULL CHECK (count > 0),
    user_id     uuid,                           -- whose it is; null: only an ADMIN may know
    account_id  uuid,
    told_at     timestamptz,                    -- when channels were told last; null while it waits for the end of quiet hours
    escalated_s integer NOT NULL DEFAULT 0,     -- how far its routes with a delay have been taken
    acked_at    timestamptz,
    acked_by    text,
    over_at     timestamptz,                    -- when the engine said that it is over
    CHECK ((acked_at IS NULL) = (acked_by IS NULL))
);
CREATE INDEX alerts_newest ON alerts (first_at DESC, id DESC);
CREATE INDEX alerts_last ON alerts (last_at);

SELECT engine_wall('alerts', 'user_id = ANY ((SELECT engine_ids(''engine.user_id''))::uuid[])'
                          || ' OR account_id = ANY ((SELECT engine_ids(''engine.account_ids''))::uuid[])');

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON alerts TO engine_app;
    END IF;
END $$;
