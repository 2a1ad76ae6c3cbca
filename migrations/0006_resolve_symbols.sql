-- What the source of an intent wrote where that was not the exchange's own symbol; and the largest single orders
-- that exchanges take, from whoever runs the engine and from the texts of refusals.

ALTER TABLE trade_intents ADD COLUMN written_symbol text;

CREATE TABLE freeze_quantities (
    exchange   text NOT NULL,
    symbol     text NOT NULL,                       -- a trading symbol, or the underlying of contracts
    quantity   bigint NOT NULL CHECK (quantity > 0),
    origin     text NOT NULL CHECK (origin IN ('user', 'learned')),
    as_of      date NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (exchange, symbol)
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON freeze_quantities TO engine_app;
    END IF;
END $$;
