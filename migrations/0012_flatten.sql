-- Orders that flatten a position: made by the engine for nobody's signal, so without an intent, with the strategy whose
-- share they close or none. They go although another order of the instrument is in doubt: what is in doubt counts as
-- not filled for what only reduces, and no more than what is held is ever sent.

ALTER TABLE orders DROP CONSTRAINT orders_origin_check;
ALTER TABLE orders ADD CONSTRAINT orders_origin_check CHECK (origin IN ('ENGINE', 'EXTERNAL', 'SQUARE_OFF'));
ALTER TABLE orders DROP CONSTRAINT orders_external_without_intent;
ALTER TABLE orders ADD CONSTRAINT orders_external_without_intent
    CHECK (origin <> 'EXTERNAL' OR (intent_id IS NULL AND strategy_id IS NULL AND submitting_at IS NULL));
ALTER TABLE orders ADD CONSTRAINT orders_square_off_without_intent
    CHECK (origin <> 'SQUARE_OFF' OR (intent_id IS NULL AND parent_id IS NULL));
ALTER TABLE orders DROP CONSTRAINT orders_one_unresolved;
ALTER TABLE orders ADD CONSTRAINT orders_one_unresolved
    EXCLUDE USING btree (account_id WITH =, exchange WITH =, symbol WITH =, product_type WITH =)
    WHERE (status IN ('SUBMITTING', 'UNKNOWN') AND origin <> 'SQUARE_OFF') DEFERRABLE INITIALLY DEFERRED;
CREATE INDEX orders_square_off ON orders (account_id, trading_day) WHERE origin = 'SQUARE_OFF';
CREATE INDEX orders_strategy_account ON orders (account_id, strategy_id, trading_day) WHERE filled_quantity > 0;

-- What a kill switch came to: signed, with the broker's reads that prove it. Never changed.
CREATE TABLE kill_certificates (
    id         uuid PRIMARY KEY,
    scope      text NOT NULL,
    tripped_at timestamptz NOT NULL,
    outcome    text NOT NULL CHECK (outcome IN ('CANCELLED', 'FLAT_VERIFIED', 'FLAT_FAILED')),
    content    text NOT NULL,                   -- JSON, exactly the bytes that were signed
    signature  bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX kill_certificates_newest ON kill_certificates (created_at DESC, id DESC);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT ON kill_certificates TO engine_app;
    END IF;
END $$;
