-- People, broker accounts, strategies, sources, intents, orders, fills, positions, limits, flags,
-- audit, journal cursor and lease. Money is numeric rupees, times are timestamptz in UTC. What is worked
-- out from a broker's averages has no fixed scale: rounded here, it would not add up after a restart.

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL,
    name          text NOT NULL DEFAULT '',
    role          text NOT NULL CHECK (role IN ('ADMIN', 'TRADER', 'VIEWER')),
    password_hash text NOT NULL,
    token_epoch   integer NOT NULL DEFAULT 0,   -- raised to end every access token of the user
    disabled      boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

CREATE TABLE refresh_tokens (
    id           uuid PRIMARY KEY,
    family_id    uuid NOT NULL,                 -- one per login; reuse of a spent token revokes it whole
    user_id      uuid NOT NULL REFERENCES users,
    token_hash   bytea NOT NULL UNIQUE,         -- SHA-256; the token itself is never stored
    child_id     uuid,                          -- the token that replaced this one, null while unspent
    issued_at    timestamptz NOT NULL,
    spent_at     timestamptz,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id) WHERE revoked_at IS NULL;
-- one live token in a family at a time
CREATE UNIQUE INDEX refresh_tokens_one_live ON refresh_tokens (family_id) WHERE spent_at IS NULL AND revoked_at IS NULL;

CREATE TABLE kite_accounts (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users,
    label         text NOT NULL,
    broker        text NOT NULL CHECK (broker IN ('paper', 'kite')),
    capital       numeric(18, 4) NOT NULL CHECK (capital >= 0),
    -- ACTIVE -> LOGIN_REQUIRED (token dead) -> ACTIVE (login); ACTIVE <-> ORDERS_BLOCKED (IP, permission)
    status        text NOT NULL CHECK (status IN ('ACTIVE', 'LOGIN_REQUIRED', 'ORDERS_BLOCKED')),
    status_reason text,
    api_key       text NOT NULL,
    api_secret    bytea,                        -- AES-256-GCM envelope
    access_token  bytea,                        -- AES-256-GCM envelope
    row_version   integer NOT NULL DEFAULT 1,
    deleted_at    timestamptz,
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);
CREATE UNIQUE INDEX kite_accounts_label ON kite_accounts (user_id, label) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX kite_accounts_api_key ON kite_accounts (api_key) WHERE deleted_at IS NULL;

CREATE TABLE strategies (
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL REFERENCES users,
    name            text NOT NULL,
    enabled         boolean NOT NULL DEFAULT true,
    approval        text NOT NULL DEFAULT 'auto' CHECK (approval IN ('auto', 'manual')),
    allowed_symbols text[],
    defaults        jsonb NOT NULL DEFAULT '{}',
    deleted_at      timestamptz,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL
);
CREATE UNIQUE INDEX strategies_name ON strategies (user_id, name) WHERE deleted_at IS NULL;

CREATE TABLE strategy_accounts (
    strategy_id  uuid NOT NULL REFERENCES strategies,
    account_id   uuid NOT NULL REFERENCES kite_accounts,
    sizing_mode  text NOT NULL CHECK (sizing_mode IN ('multiplier', 'fixed', 'capital_pct', 'lots')),
    sizing_value numeric(18, 4) NOT NULL CHECK (sizing_value > 0),
    PRIMARY KEY (strategy_id, account_id)
);

CREATE TABLE signal_sources (
    id                uuid PRIMARY KEY,
    user_id           uuid NOT NULL REFERENCES users,
    strategy_id       uuid NOT NULL REFERENCES strategies,
    type              text NOT NULL CHECK (type IN ('sheets', 'telegram', 'webhook', 'tradingview')),
    name              text NOT NULL,
    api_key_hash      bytea UNIQUE,             -- SHA-256 of the key that names the source
    secret            bytea,                    -- AES-256-GCM envelope
    require_timestamp boolean NOT NULL DEFAULT true,
    ip_allowlist      text[],
    telegram_chat_ids bigint[],
    enabled           boolean NOT NULL DEFAULT true,
    row_version       integer NOT NULL DEFAULT 1,
    deleted_at        timestamptz,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL
);

CREATE TABLE trade_intents (
    id               uuid PRIMARY KEY,
    source_id        uuid NOT NULL REFERENCES signal_sources,
    strategy_id      uuid NOT NULL REFERENCES strategies,
    user_id          uuid NOT NULL REFERENCES users,
    idempotency_key  text NOT NULL,
    position         integer NOT NULL,          -- place of the signal in its delivery
    body_sha256      bytea NOT NULL,
    symbol           text NOT NULL,
    exchange         text NOT NULL,
    transaction_type text NOT NULL CHECK (transaction_type IN ('BUY', 'SELL')),
    quantity         bigint NOT NULL CHECK (quantity > 0),
    price            numeric(18, 4),
    trigger_price    numeric(18, 4),
    order_type       text NOT NULL CHECK (order_type IN ('MARKET', 'LIMIT', 'SL', 'SL-M')),
    product_type     text NOT NULL CHECK (product_type IN ('CNC', 'NRML', 'MIS', 'MTF')),
    validity         text NOT NULL,
    variety          text NOT NULL,
    stop_loss        numeric(18, 4),
    target           numeric(18, 4),
    account_label    text,
    -- RECEIVED -> (PENDING_APPROVAL) -> APPROVED | REJECTED -> EXECUTING
    --   -> EXECUTED | PARTIAL | FAILED | CANCELLED | EXPIRED; the last six and REJECTED are final
    status           text NOT NULL CHECK (status IN ('RECEIVED', 'PENDING_APPROVAL', 'APPROVED', 'REJECTED',
                     'EXECUTING', 'EXECUTED', 'PARTIAL', 'FAILED', 'CANCELLED', 'EXPIRED')),
    reason           text,
    request_id       text,
    received_at      timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    UNIQUE (source_id, idempotency_key, position)
);
CREATE INDEX trade_intents_newest ON trade_intents (received_at DESC, id DESC);
CREATE INDEX trade_intents_user ON trade_intents (user_id, received_at DESC, id DESC);
CREATE INDEX trade_intents_live ON trade_intents (received_at)
    WHERE status IN ('RECEIVED', 'PENDING_APPROVAL', 'APPROVED', 'EXECUTING');

CREATE TABLE intent_events (
    intent_id uuid NOT NULL REFERENCES trade_intents,
    at        timestamptz NOT NULL,
    event     text NOT NULL,
    detail    text NOT NULL DEFAULT '',
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
);
CREATE INDEX intent_events_intent ON intent_events (intent_id, id);

CREATE TABLE orders (
    id                uuid PRIMARY KEY,
    intent_id         uuid REFERENCES trade_intents,
    account_id        uuid NOT NULL REFERENCES kite_accounts,
    user_id           uuid NOT NULL REFERENCES users,
    strategy_id       uuid REFERENCES strategies,
    exchange          text NOT NULL,
    symbol            text NOT NULL,
    transaction_type  text NOT NULL CHECK (transaction_type IN ('BUY', 'SELL')),
    quantity          bigint NOT NULL CHECK (quantity > 0),
    order_type        text NOT NULL CHECK (order_type IN ('MARKET', 'LIMIT', 'SL', 'SL-M')),
    product_type      text NOT NULL CHECK (product_type IN ('CNC', 'NRML', 'MIS', 'MTF')),
    price             numeric(18, 4),
    trigger_price     numeric(18, 4),
    market_protection numeric(9, 4),
    validity          text NOT NULL,
    variety           text NOT NULL,
    -- PENDING (waits for its turn) -> SUBMITTING (write-ahead; may be on the wire)
    --   -> SUBMITTED -> OPEN | TRIGGER_PENDING -> PARTIALLY_FILLED -> COMPLETE | CANCELLED | REJECTED
    -- SUBMITTING -> UNKNOWN (no proof of the outcome) -> any of the above | EXPIRED (proved absent)
    -- PENDING -> EXPIRED (too old) | CANCELLED (kill switch) | FAILED (cannot be sent)
    status            text NOT NULL CHECK (status IN ('PENDING', 'SUBMITTING', 'SUBMITTED', 'OPEN', 'TRIGGER_PENDING',
                      'PARTIALLY_FILLED', 'COMPLETE', 'CANCELLED', 'REJECTED', 'UNKNOWN', 'EXPIRED', 'FAILED')),
    status_message    text,
    broker_order_id   text,
    tag               text NOT NULL UNIQUE,
    attempt           integer NOT NULL,
    epoch             bigint NOT NULL,
    trading_day       date NOT NULL,
    filled_quantity   bigint NOT NULL DEFAULT 0 CHECK (filled_quantity >= 0),
    average_price     numeric NOT NULL DEFAULT 0,
    deadline          timestamptz NOT NULL,
    submitting_at     timestamptz,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL
);
CREATE UNIQUE INDEX orders_broker_id ON orders (account_id, trading_day, broker_order_id) WHERE broker_order_id IS NOT NULL;
CREATE INDEX orders_newest ON orders (created_at DESC, id DESC);
CREATE INDEX orders_user ON orders (user_id, created_at DESC, id DESC);
CREATE INDEX orders_intent ON orders (intent_id);
CREATE INDEX orders_live ON orders (account_id, created_at)
    WHERE status IN ('PENDING', 'SUBMITTING', 'SUBMITTED', 'OPEN', 'TRIGGER_PENDING', 'PARTIALLY_FILLED', 'UNKNOWN');
-- at most one order whose outcome is not known, per account, symbol and product: a partial unique index,
-- as an exclusion constraint so that it is checked at commit, when one order of a batch has made way for the next
ALTER TABLE orders ADD CONSTRAINT orders_one_unresolved
    EXCLUDE USING btree (account_id WITH =, exchange WITH =, symbol WITH =, product_type WITH =)
    WHERE (status IN ('SUBMITTING', 'UNKNOWN')) DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE order_events (
    order_id        uuid NOT NULL REFERENCES orders,
    at              timestamptz NOT NULL,
    from_status     text NOT NULL,
    to_status       text NOT NULL,
    filled_quantity bigint NOT NULL,
    detail          text NOT NULL DEFAULT '',
    anomaly         boolean NOT NULL DEFAULT false,
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
);
CREATE INDEX order_events_order ON order_events (order_id, id);

CREATE TABLE fills (
    account_id       uuid NOT NULL REFERENCES kite_accounts,
    order_id         uuid NOT NULL REFERENCES orders,
    trade_id         text NOT NULL,
    broker_order_id  text NOT NULL,
    exchange         text NOT NULL,
    symbol           text NOT NULL,
    product_type     text NOT NULL,
    transaction_type text NOT NULL,
    quantity         bigint NOT NULL CHECK (quantity > 0),
    price            numeric NOT NULL,
    synthetic        boolean NOT NULL DEFAULT false,
    filled_at        timestamptz NOT NULL,
    PRIMARY KEY (order_id, trade_id)            -- trade ids are unique only within order and day
);
CREATE INDEX fills_newest ON fills (filled_at DESC);

CREATE TABLE positions (
    account_id         uuid NOT NULL REFERENCES kite_accounts,
    exchange           text NOT NULL,
    symbol             text NOT NULL,
    product_type       text NOT NULL,
    trading_day        date NOT NULL,           -- the day that the day_* columns speak of
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
    multiplier         numeric NOT NULL DEFAULT 1,
    updated_at         timestamptz NOT NULL,
    PRIMARY KEY (account_id, exchange, symbol, product_type)
);

CREATE TABLE risk_limits (
    id         uuid PRIMARY KEY,
    user_id    uuid NOT NULL REFERENCES users,
    account_id uuid REFERENCES kite_accounts,
    limits     jsonb NOT NULL,                  -- the camelCase keys of the API; null means no limit
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX risk_limits_user ON risk_limits (user_id) WHERE account_id IS NULL;
CREATE UNIQUE INDEX risk_limits_account ON risk_limits (user_id, account_id) WHERE account_id IS NOT NULL;

CREATE TABLE system_flags (
    name       text PRIMARY KEY,                -- killswitch:SCOPE
    value      jsonb NOT NULL,
    version    bigint NOT NULL,                 -- grows with every change; the highest readable one counts
    updated_at timestamptz NOT NULL
);

CREATE TABLE audit_logs (
    seq       bigint PRIMARY KEY,
    at        timestamptz NOT NULL,
    actor     text NOT NULL,
    action    text NOT NULL,
    subject   text NOT NULL,
    content   text NOT NULL,                    -- canonical JSON, exactly the bytes that were hashed
    prev_hash bytea NOT NULL,
    hash      bytea NOT NULL UNIQUE
);
CREATE INDEX audit_logs_subject ON audit_logs (subject, seq);

CREATE FUNCTION audit_logs_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_logs is append-only';
END $$;
CREATE TRIGGER audit_logs_no_change BEFORE UPDATE OR DELETE ON audit_logs
    FOR EACH ROW EXECUTE FUNCTION audit_logs_append_only();
CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_append_only();

CREATE TABLE journal_cursor (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch      uuid NOT NULL,                   -- names the journal that the position belongs to
    position   text NOT NULL,                   -- every entry up to it is in trade_intents
    updated_at timestamptz NOT NULL
);

CREATE TABLE engine_lease (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- the fencing token: grows with every taking. Unique, so that renewing the row does not wait for
    -- (nor hold up) the ledger's FOR KEY SHARE on it, while taking the lease does
    epoch      bigint NOT NULL UNIQUE,
    holder     text NOT NULL,
    renewed_at timestamptz NOT NULL,
    released   boolean NOT NULL
);

CREATE TABLE dead_letters (
    id         uuid PRIMARY KEY,
    queue      text NOT NULL,
    -- WAITING -> REQUEUED | DISCARDED
    status     text NOT NULL CHECK (status IN ('WAITING', 'REQUEUED', 'DISCARDED')),
    payload    bytea NOT NULL,
    error      text NOT NULL,
    attempts   integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
