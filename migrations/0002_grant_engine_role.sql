-- The engine works as a role that can neither change nor delete audit records, nor alter any table.
-- Where the login may not create roles the engine works as the login itself; `engine doctor` says so.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        BEGIN
            CREATE ROLE engine_app NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'no right to create the role engine_app';
                RETURN;
        END;
    END IF;
    -- roles belong to the whole server: the migration of another database may grant this one at the same moment,
    -- which PostgreSQL reports as an internal error (a tuple concurrently updated)
    FOR attempt IN 1..20 LOOP
        BEGIN
            EXECUTE format('GRANT engine_app TO %I', current_user);
            RETURN;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'no right to grant the role engine_app';
                RETURN;
            WHEN internal_error OR unique_violation THEN
                PERFORM pg_sleep(0.01 * attempt);
        END;
    END LOOP;
    RAISE EXCEPTION 'the role engine_app cannot be granted: other sessions keep changing it';
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO engine_app', current_schema());
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO engine_app', current_schema());
        EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO engine_app', current_schema());
        REVOKE UPDATE, DELETE, TRUNCATE ON audit_logs FROM engine_app;
        REVOKE UPDATE, DELETE ON fills, order_events, intent_events FROM engine_app;
        REVOKE DELETE ON trade_intents, orders, users, kite_accounts, strategies, signal_sources FROM engine_app;
        -- without the lease's row its epoch, the fencing token, would begin again at 1
        REVOKE DELETE ON engine_lease, journal_cursor, system_flags FROM engine_app;
        REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM engine_app;
        -- a synthetic fill is replaced once the trade book shows the trade
        GRANT DELETE ON fills TO engine_app;
    END IF;
END $$;
