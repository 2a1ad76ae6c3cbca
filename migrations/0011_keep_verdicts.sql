-- What risk said of an intent, whole: every rule, the numbers it saw and the limits of then. And limits of a strategy.

CREATE TABLE risk_verdicts (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    intent_id uuid NOT NULL REFERENCES trade_intents,
    at        timestamptz NOT NULL,
    -- JSON, kept as text: judging it again must give it to the byte
    body      text NOT NULL
);
CREATE INDEX risk_verdicts_intent ON risk_verdicts (intent_id, id);
CREATE INDEX risk_verdicts_at ON risk_verdicts (at, id);

ALTER TABLE risk_limits ADD COLUMN strategy_id uuid REFERENCES strategies;
DROP INDEX risk_limits_user;
DROP INDEX risk_limits_account;
-- one set of limits for a user, an account of the user, a strategy, and a strategy on an account
CREATE UNIQUE INDEX risk_limits_place ON risk_limits (
    user_id,
    coalesce(account_id, '00000000-0000-0000-0000-000000000000'::uuid),
    coalesce(strategy_id, '00000000-0000-0000-0000-000000000000'::uuid)
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        -- what was decided stays on the record
        GRANT SELECT, INSERT ON risk_verdicts TO engine_app;
        GRANT USAGE ON SEQUENCE risk_verdicts_id_seq TO engine_app;
    END IF;
END $$;
