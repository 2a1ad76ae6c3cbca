-- What each order costs the store: references to rows that are never deleted and that the row's own source, account or
-- order vouches for already. Kept are those by which a row hangs on what it was made of: an intent's source, an order's
-- intent, account and parent, a fill's order.

ALTER TABLE trade_intents
    DROP CONSTRAINT trade_intents_user_id_fkey,
    DROP CONSTRAINT trade_intents_strategy_id_fkey;
ALTER TABLE orders
    DROP CONSTRAINT orders_user_id_fkey,
    DROP CONSTRAINT orders_strategy_id_fkey;
ALTER TABLE fills DROP CONSTRAINT fills_account_id_fkey;

-- the orders of an account's day, found by an index also before the broker has named them: at every start
CREATE UNIQUE INDEX orders_account_day ON orders (account_id, trading_day, broker_order_id);
DROP INDEX orders_broker_id;
ALTER INDEX orders_account_day RENAME TO orders_broker_id;

-- of before strategies had books of their own: nothing reads by it any more
DROP INDEX orders_strategy_account;

-- what stands in place of an order or hangs on it, read at every start of its account
CREATE INDEX orders_parent ON orders (parent_id) WHERE parent_id IS NOT NULL;
