-- Strategy books: which part of each position is which strategy's. Written in the transaction that takes the fill, so
-- that the books of a position always add up to it. The book of hand trades has the id of zeros.

CREATE TABLE strategy_positions (
    account_id         uuid NOT NULL REFERENCES kite_accounts,
    exchange           text NOT NULL,
    symbol             text NOT NULL,
    product_type       text NOT NULL,
    book               uuid NOT NULL,           -- the strategy's id; all zeros: trades by hand
    trading_day        date NOT NULL,           -- the day that the day_* columns and the charges speak of
    quantity           bigint NOT NULL,
    overnight_quantity bigint NOT NULL,
    buy_quantity       bigint NOT NULL,
    buy_value          numeric NOT NULL,
    sell_quantity      bigint NOT NULL,
    sell_value         numeric NOT NULL,
    day_buy_quantity   bigint NOT NULL,
    day_buy_value      numeric NOT NULL,
    day_sell_quantity  bigint NOT NULL,
    day_sell_value     numeric NOT NULL,
    close_price        numeric NOT NULL,
    last_price         numeric NOT NULL,
    multiplier         numeric NOT NULL,
    charges            numeric NOT NULL,        -- of the day's executed orders
    trip_value         numeric NOT NULL,        -- the cash of the round trip under way, and what it cost
    trip_charges       numeric NOT NULL,
    updated_at         timestamptz NOT NULL,
    PRIMARY KEY (account_id, exchange, symbol, product_type, book)
);

CREATE TABLE round_trips (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id   uuid NOT NULL REFERENCES kite_accounts,
    book         uuid NOT NULL,
    exchange     text NOT NULL,
    symbol       text NOT NULL,
    product_type text NOT NULL,
    trading_day  date NOT NULL,
    result       numeric NOT NULL,              -- after charges
    charges      numeric NOT NULL,
    ended_at     timestamptz NOT NULL
);
CREATE INDEX round_trips_day ON round_trips (account_id, trading_day, id);

-- what each day came to, of the day under way as of a moment ago; its peak is what a restart goes on from
CREATE TABLE day_results (
    user_id     uuid NOT NULL REFERENCES users,
    trading_day date NOT NULL,
    scope       text NOT NULL,                  -- user, account:ID, strategy:ID, hand, account:ID/strategy:ID, account:ID/hand
    realised    numeric NOT NULL,
    unrealised  numeric NOT NULL,
    charges     numeric NOT NULL,
    peak        numeric NOT NULL,
    trades      integer NOT NULL,
    capital     numeric,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (user_id, trading_day, scope)
);

ALTER TABLE kite_accounts
    ADD COLUMN capital_from text NOT NULL DEFAULT 'STATED' CHECK (capital_from IN ('STATED', 'BROKER')),
    ADD COLUMN capital_read_at timestamptz;     -- when the broker last said it, of capital_from BROKER
-- without a capital every limit in percent refused its orders
UPDATE kite_accounts SET capital_from = 'BROKER' WHERE broker = 'kite' AND capital = 0;

-- whose the positions of before were is not known of each: they are the hand's until they are closed
INSERT INTO strategy_positions
SELECT account_id, exchange, symbol, product_type, '00000000-0000-0000-0000-000000000000', trading_day, quantity,
    overnight_quantity, buy_quantity, buy_value, sell_quantity, sell_value, day_buy_quantity, day_buy_value,
    day_sell_quantity, day_sell_value, close_price, last_price, multiplier, 0,
    CASE WHEN quantity > 0 THEN coalesce(-quantity * (buy_value / nullif(buy_quantity, 0)), 0)
         WHEN quantity < 0 THEN coalesce(-quantity * (sell_value / nullif(sell_quantity, 0)), 0) ELSE 0 END,
    0, updated_at
FROM positions;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE ON strategy_positions, day_results TO engine_app;
        -- what ended stays as it ended
        GRANT SELECT, INSERT ON round_trips TO engine_app;
    END IF;
END $$;
