-- Exits attached to entries (stop loss, target), what an order replaces, and the terms that most orders leave
-- out (engine.domain.options, as JSON text). How far a MARKET order may fill from the last price is a policy of
-- the account: -1 is the broker's own table, otherwise percent.

ALTER TABLE orders ADD COLUMN role text NOT NULL DEFAULT 'ENTRY' CHECK (role IN ('ENTRY', 'STOP', 'TARGET'));
ALTER TABLE orders ADD COLUMN parent_id uuid REFERENCES orders;
ALTER TABLE orders ADD COLUMN stop_loss numeric(18, 4);
ALTER TABLE orders ADD COLUMN target numeric(18, 4);
ALTER TABLE orders ADD COLUMN options text;
ALTER TABLE orders ADD COLUMN modifications integer NOT NULL DEFAULT 0;
ALTER TABLE orders ADD CONSTRAINT orders_exit_has_entry CHECK (role = 'ENTRY' OR parent_id IS NOT NULL);
CREATE INDEX orders_attached ON orders (account_id, trading_day)
    WHERE role <> 'ENTRY' OR stop_loss IS NOT NULL OR target IS NOT NULL;

ALTER TABLE trade_intents ADD COLUMN options text;

ALTER TABLE kite_accounts ADD COLUMN market_protection numeric(9, 4) NOT NULL DEFAULT -1
    CHECK (market_protection = -1 OR (market_protection > 0 AND market_protection <= 100));

-- Orders by hand of the broker's own kinds: cover and bracket orders show these as their product.
ALTER TABLE orders DROP CONSTRAINT orders_product_type_check;
ALTER TABLE orders ADD CONSTRAINT orders_product_type_check
    CHECK (product_type IN ('CNC', 'NRML', 'MIS', 'MTF', 'CO', 'BO'));
