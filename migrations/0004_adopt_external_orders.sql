-- Orders that the engine found in the broker's book and did not send: placed by hand, by the broker, or by
-- another program on the same account. They have no intent. The engine's role writes the column by the
-- rights on the whole table that migration 0002 gave it.

ALTER TABLE orders ADD COLUMN origin text NOT NULL DEFAULT 'ENGINE' CHECK (origin IN ('ENGINE', 'EXTERNAL'));
ALTER TABLE orders ADD CONSTRAINT orders_external_without_intent
    CHECK (origin = 'ENGINE' OR (intent_id IS NULL AND strategy_id IS NULL AND submitting_at IS NULL));
