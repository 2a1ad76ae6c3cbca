-- Good-till-triggered orders (GTT): the exits of an entry that the broker keeps, over days and without the engine.
-- A row is written before its request leaves, for the broker has no key that makes one safe to repeat.

CREATE TABLE gtts (
    id               uuid PRIMARY KEY,
    entry_id         uuid NOT NULL REFERENCES orders,
    account_id       uuid NOT NULL REFERENCES kite_accounts,
    user_id          uuid NOT NULL REFERENCES users,
    strategy_id      uuid REFERENCES strategies,
    exchange         text NOT NULL,
    symbol           text NOT NULL,
    transaction_type text NOT NULL CHECK (transaction_type IN ('BUY', 'SELL')),
    product_type     text NOT NULL CHECK (product_type IN ('CNC', 'NRML', 'MIS', 'MTF')),
    quantity         bigint NOT NULL CHECK (quantity > 0),
    stop_trigger     numeric(18, 4),
    stop_price       numeric(18, 4),
    target_trigger   numeric(18, 4),
    target_price     numeric(18, 4),
    last_price       numeric(18, 4) NOT NULL,
    -- SUBMITTING (written ahead) -> ACTIVE -> TRIGGERED | CANCELLED | EXPIRED; REJECTED by the broker
    -- SUBMITTING -> UNKNOWN (no proof of the outcome) -> ACTIVE ... | FAILED (proved absent)
    status           text NOT NULL CHECK (status IN ('SUBMITTING', 'UNKNOWN', 'ACTIVE', 'TRIGGERED', 'CANCELLED',
                     'REJECTED', 'EXPIRED', 'FAILED')),
    status_message   text,
    trigger_id       text,
    unit             integer NOT NULL,
    unit_quantity    bigint NOT NULL CHECK (unit_quantity > 0),
    attempt          integer NOT NULL,
    fired_role       text CHECK (fired_role IN ('STOP', 'TARGET')),
    broker_order_id  text,
    submitting_at    timestamptz NOT NULL,
    expires_at       timestamptz,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    CHECK (stop_trigger IS NOT NULL OR target_trigger IS NOT NULL),
    CHECK ((stop_trigger IS NULL) = (stop_price IS NULL) AND (target_trigger IS NULL) = (target_price IS NULL)),
    UNIQUE (entry_id, unit, attempt)
);
CREATE UNIQUE INDEX gtts_trigger ON gtts (account_id, trigger_id) WHERE trigger_id IS NOT NULL;
CREATE INDEX gtts_live ON gtts (account_id) WHERE status IN ('SUBMITTING', 'UNKNOWN', 'ACTIVE');
CREATE INDEX gtts_newest ON gtts (created_at DESC, id DESC);
CREATE INDEX gtts_user ON gtts (user_id, created_at DESC, id DESC);
CREATE INDEX gtts_entry ON gtts (entry_id);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        -- what was asked of the broker stays on the record
        GRANT SELECT, INSERT, UPDATE ON gtts TO engine_app;
    END IF;
END $$;
