-- An intent whose symbol was a contract in words, and freeze quantities of both origins; the intent of before this
-- migration was written with the exchange's own symbol.
UPDATE trade_intents SET written_symbol = 'NIFTY ATM CE' WHERE false;
INSERT INTO freeze_quantities (exchange, symbol, quantity, origin, as_of, updated_at) VALUES
    ('NFO', 'NIFTY', 1800, 'user', '2026-11-23', now()),
    ('NFO', 'BANKNIFTY', 600, 'learned', '2026-11-23', now());
DO $$
BEGIN
    ASSERT NOT EXISTS (SELECT FROM trade_intents WHERE written_symbol IS NOT NULL);
END $$;
