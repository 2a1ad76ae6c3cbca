-- What a VIEWER may read of somebody else's, the answers of calls that must not run twice, and a wall between the rows
-- of users: a second one, behind the conditions that the queries themselves have.

CREATE TABLE read_grants (
    id         uuid PRIMARY KEY,
    viewer_id  uuid NOT NULL REFERENCES users,
    owner_id   uuid NOT NULL REFERENCES users,
    account_id uuid REFERENCES kite_accounts,   -- null: everything that the owner has
    granted_by text NOT NULL,
    granted_at timestamptz NOT NULL,
    CHECK (viewer_id <> owner_id)
);
CREATE UNIQUE INDEX read_grants_user ON read_grants (viewer_id, owner_id) WHERE account_id IS NULL;
CREATE UNIQUE INDEX read_grants_account ON read_grants (viewer_id, account_id) WHERE account_id IS NOT NULL;

-- a key is taken before its call runs; without an answer nobody can tell whether it ran
CREATE TABLE idempotency_keys (
    id          uuid PRIMARY KEY,               -- what the answer is sealed to
    user_id     uuid NOT NULL REFERENCES users,
    key         text NOT NULL,
    fingerprint bytea NOT NULL,                 -- SHA-256 of method, path and body
    answer      bytea,                          -- AES-256-GCM envelope: it may show a secret this once
    created_at  timestamptz NOT NULL,
    UNIQUE (user_id, key)
);
CREATE INDEX idempotency_keys_oldest ON idempotency_keys (created_at);

-- a user is kept for what it did; its e-mail address is free again
ALTER TABLE users ADD COLUMN deleted_at timestamptz;
DROP INDEX users_email_key;
CREATE UNIQUE INDEX users_email_key ON users (lower(email)) WHERE deleted_at IS NULL;

-- caps of a source, on top of those of risk and of its strategy
ALTER TABLE signal_sources
    ADD COLUMN max_order_value numeric(18, 4) CHECK (max_order_value > 0),   -- rupees; null: none
    ADD COLUMN allowed_symbols text[];                                       -- null: those of the strategy

-- Who asks is a setting of the session, 'engine' for the engine itself, and of a transaction that serves somebody's
-- request: the users and accounts that it may read. Where nothing is set nothing is seen.
CREATE FUNCTION engine_is_itself() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT current_setting('engine.user_id', true) IS NOT DISTINCT FROM 'engine' $$;

CREATE FUNCTION engine_ids(setting text) RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN coalesce(current_setting(setting, true), '') IN ('', 'engine') THEN '{}'::uuid[]
          ELSE string_to_array(current_setting(setting, true), ',')::uuid[] END $$;

-- the engine first, as a condition that is worked out once for a statement: it costs the trading path nothing
CREATE FUNCTION engine_wall(walled regclass, mine text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', walled);
    EXECUTE format('CREATE POLICY users_apart ON %s USING ((SELECT engine_is_itself()) OR %s)', walled, mine);
END $$;

DO $$
DECLARE
    of_user    text := 'user_id = ANY ((SELECT engine_ids(''engine.user_id''))::uuid[])';
    of_account text := 'account_id = ANY ((SELECT engine_ids(''engine.account_ids''))::uuid[])';
    walled     text;
BEGIN
    PERFORM engine_wall('users', 'id = ANY ((SELECT engine_ids(''engine.user_id''))::uuid[])');
    PERFORM engine_wall('kite_accounts', of_user || ' OR id = ANY ((SELECT engine_ids(''engine.account_ids''))::uuid[])');
    FOREACH walled IN ARRAY ARRAY['orders', 'gtts', 'risk_limits'] LOOP
        PERFORM engine_wall(walled::regclass, of_user || ' OR ' || of_account);
    END LOOP;
    PERFORM engine_wall('read_grants',
        'owner_id = ANY ((SELECT engine_ids(''engine.user_id''))::uuid[])'
        ' OR viewer_id = ANY ((SELECT engine_ids(''engine.user_id''))::uuid[])');
    -- the rest of what has a user
    FOR walled IN
        SELECT c.table_name FROM information_schema.columns c
        JOIN pg_class t ON t.oid = to_regclass(format('%I.%I', c.table_schema, c.table_name))
        WHERE c.table_schema = current_schema() AND c.column_name = 'user_id'
          AND t.relkind = 'r' AND NOT t.relrowsecurity
    LOOP
        PERFORM engine_wall(walled::regclass, of_user);
    END LOOP;
    -- what belongs to an account, an order, an intent or a strategy is seen by who sees that
    FOREACH walled IN ARRAY ARRAY['fills', 'positions', 'strategy_positions', 'round_trips', 'account_logins'] LOOP
        PERFORM engine_wall(walled::regclass,
            format('EXISTS (SELECT FROM kite_accounts a WHERE a.id = %I.account_id)', walled));
    END LOOP;
    PERFORM engine_wall('order_events', 'EXISTS (SELECT FROM orders o WHERE o.id = order_events.order_id)');
    PERFORM engine_wall('intent_events', 'EXISTS (SELECT FROM trade_intents i WHERE i.id = intent_events.intent_id)');
    PERFORM engine_wall('risk_verdicts', 'EXISTS (SELECT FROM trade_intents i WHERE i.id = risk_verdicts.intent_id)');
    PERFORM engine_wall('strategy_accounts', 'EXISTS (SELECT FROM strategies s WHERE s.id = strategy_accounts.strategy_id)');
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, DELETE ON read_grants TO engine_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO engine_app;
        -- the limits of an account go with it
        GRANT DELETE ON risk_limits TO engine_app;
        -- without the right to alter tables the engine's role can neither drop nor widen a policy
        REVOKE ALL ON FUNCTION engine_wall(regclass, text) FROM PUBLIC;
    END IF;
END $$;
