-- One signal on many accounts: sizing by risk, caps, what is done when only some of them fill; approval by hand; the
-- hours in which a strategy enters. A signal may ask for a position instead of an order.

ALTER TABLE strategy_accounts DROP CONSTRAINT strategy_accounts_sizing_mode_check;
ALTER TABLE strategy_accounts ADD CONSTRAINT strategy_accounts_sizing_mode_check
    CHECK (sizing_mode IN ('multiplier', 'fixed', 'capital_pct', 'lots', 'risk_pct'));
ALTER TABLE strategy_accounts ADD COLUMN max_quantity bigint CHECK (max_quantity > 0);
ALTER TABLE strategy_accounts ADD COLUMN max_value numeric(18, 4) CHECK (max_value > 0);

ALTER TABLE strategies ADD COLUMN approval_ttl_s integer NOT NULL DEFAULT 300 CHECK (approval_ttl_s > 0);
ALTER TABLE strategies ADD COLUMN approval_price_move_pct numeric(9, 4) NOT NULL DEFAULT 1
    CHECK (approval_price_move_pct > 0);
ALTER TABLE strategies ADD COLUMN group_policy text NOT NULL DEFAULT 'leave'
    CHECK (group_policy IN ('leave', 'retry', 'unwind'));
ALTER TABLE strategies ADD COLUMN group_deadline_s integer NOT NULL DEFAULT 30 CHECK (group_deadline_s > 0);
-- HH:MM in market.timezone; the end is outside
ALTER TABLE strategies ADD COLUMN entry_start text;
ALTER TABLE strategies ADD COLUMN entry_end text;
ALTER TABLE strategies ADD COLUMN square_off_at text;

ALTER TABLE trade_intents ADD COLUMN position_size bigint;          -- signed units to hold, null for a plain order
ALTER TABLE trade_intents ADD COLUMN seen_price numeric(18, 4);     -- last price when it began to wait for a person
ALTER TABLE trade_intents ADD COLUMN expires_at timestamptz;        -- until then a person may approve it
ALTER TABLE trade_intents ADD COLUMN approved_at timestamptz;
