-- History in parts, so that what has gone by costs nothing: the timelines of intents and orders and the verdicts in
-- one part a month, the audit log in parts of so many records. The log's number is what its chain rests on, and only a
-- part that is made by it keeps any number from standing twice. Intents, orders and fills stay whole: their ids, keys
-- and tags must be unique over all time. No row is moved: what a table held becomes its first part.
--
-- Rows of events, verdicts and the log are found by what they belong to; the references of the first two to intents and
-- orders are gone: their one writer makes both in one transaction, and neither may be deleted.

CREATE FUNCTION engine_audit_part_size() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 2000000::bigint $$;

-- what a part has of its own: no rights, nothing to be seen, and for the log that nothing in it changes
CREATE FUNCTION engine_guard_part(parent text, part text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', part);
    IF parent = 'audit_logs' THEN
        IF current_setting('server_version_num')::integer < 130000 THEN
            -- later ones give a part the trigger of the whole
            EXECUTE format('CREATE TRIGGER audit_logs_no_change BEFORE UPDATE OR DELETE ON %I'
                           ' FOR EACH ROW EXECUTE FUNCTION audit_logs_append_only()', part);
        END IF;
        EXECUTE format('CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON %I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_append_only()', part);
    END IF;
END $$;

-- Make one part. What the net has caught of it is moved into it. False when there is one already.
CREATE FUNCTION engine_add_part(parent text, part text, key text, low text, high text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    net text := parent || '_default';
BEGIN
    IF to_regclass(format('%I', part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', part, parent);
    IF parent <> 'audit_logs' THEN
        EXECUTE format('WITH caught AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *)'
                       ' INSERT INTO %I SELECT * FROM caught', net, key, low, key, high, part);
    END IF;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, part, low, high);
    PERFORM engine_guard_part(parent, part);
    RETURN true;
EXCEPTION
    -- another part has these rows: the first one, of before there were parts
    WHEN invalid_object_definition THEN
        RETURN false;
END $$;

-- See that there are parts for what is written next, and for what the nets caught; return how many were made. Called
-- each day, by the engine's role too, which can do nothing else to a table.
CREATE FUNCTION engine_keep_parts(months_ahead integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    parent text;
    first  timestamp;
    size   bigint := engine_audit_part_size();
    last   bigint;
    caught bigint;
    made   integer := 0;
BEGIN
    -- two engines, or one and a command, at once
    PERFORM pg_advisory_xact_lock(hashtext('engine_keep_parts'));
    FOREACH parent IN ARRAY ARRAY['intent_events', 'order_events', 'risk_verdicts'] LOOP
        FOR first IN EXECUTE format(
            'SELECT date_trunc(''month'', now() AT TIME ZONE ''UTC'') + make_interval(months => n)'
            ' FROM generate_series(0, $1) AS n'
            ' UNION SELECT date_trunc(''month'', at AT TIME ZONE ''UTC'') FROM %I ORDER BY 1', parent || '_default')
            USING greatest(1, least(months_ahead, 24))
        LOOP
            made := made + engine_add_part(
                parent, format('%s_%s', parent, to_char(first, 'YYYYMM')), 'at',
                (first AT TIME ZONE 'UTC')::text, ((first + interval '1 month') AT TIME ZONE 'UTC')::text)::integer;
        END LOOP;
    END LOOP;
    SELECT coalesce(max(seq), 0) / size INTO last FROM audit_logs;
    SELECT min(seq) INTO caught FROM audit_logs_default;
    IF caught IS NOT NULL THEN
        -- nothing of the log is ever moved: what the net caught is a part from now on
        ALTER TABLE audit_logs DETACH PARTITION audit_logs_default;
        EXECUTE format('ALTER TABLE audit_logs_default RENAME TO %I', format('audit_logs_from_%s', caught));
        EXECUTE format('ALTER TABLE audit_logs ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            format('audit_logs_from_%s', caught), caught, (last + 1) * size);
        CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;
        PERFORM engine_guard_part('audit_logs', 'audit_logs_default');
    END IF;
    FOR number IN last..last + 2 LOOP
        made := made + engine_add_part(
            'audit_logs', format('audit_logs_%s', number), 'seq',
            (number * size)::text, ((number + 1) * size)::text)::integer;
    END LOOP;
    RETURN made;
END $$;

-- Drop the months of events and verdicts that ended before an instant; return the names of what was dropped. For the
-- owner of the schema alone. The audit log is not among them: it is whole or it proves nothing.
CREATE FUNCTION engine_drop_months(before timestamptz) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    part record;
BEGIN
    FOR part IN
        SELECT child.relname AS name, pg_get_expr(child.relpartbound, child.oid) AS bounds
        FROM pg_inherits i JOIN pg_class child ON child.oid = i.inhrelid
        WHERE i.inhparent IN ('intent_events'::regclass, 'order_events'::regclass, 'risk_verdicts'::regclass)
    LOOP
        CONTINUE WHEN part.bounds = 'DEFAULT'
            OR substring(part.bounds FROM 'TO \(''([^'']+)''\)$')::timestamptz > before;
        EXECUTE format('DROP TABLE %I', part.name);
        RETURN NEXT part.name;
    END LOOP;
END $$;

DO $$
DECLARE
    parent  text;
    key     text;
    follows bigint;
    newest  timestamptz;
    held    boolean;
    role    boolean := EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app');
BEGIN
    FOREACH parent IN ARRAY ARRAY['intent_events', 'order_events', 'risk_verdicts'] LOOP
        key := CASE parent WHEN 'order_events' THEN 'order_id' ELSE 'intent_id' END;
        EXECUTE format('SELECT coalesce(max(id), 0) + 1, greatest(max(at), now()), max(id) IS NOT NULL FROM %I', parent)
            INTO follows, newest, held;
        EXECUTE format('ALTER TABLE %I ALTER COLUMN id DROP IDENTITY, DROP CONSTRAINT %I, DROP CONSTRAINT %I',
            parent, parent || '_pkey', format('%s_%s_fkey', parent, key));
        EXECUTE format('ALTER TABLE %I RENAME TO %I', parent, parent || '_before');
        EXECUTE format('ALTER INDEX %I RENAME TO %I', format('%s_%s', parent, split_part(key, '_', 1)),
            format('%s_before_%s', parent, split_part(key, '_', 1)));
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (at)',
            parent, parent || '_before');
        EXECUTE format('ALTER TABLE %I ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (START WITH %s)', parent, follows);
        EXECUTE format('CREATE INDEX %I ON %I (%I, id)', format('%s_%s', parent, split_part(key, '_', 1)), parent, key);
        IF parent = 'risk_verdicts' THEN
            ALTER INDEX risk_verdicts_at RENAME TO risk_verdicts_before_at;
            CREATE INDEX risk_verdicts_at ON risk_verdicts (at, id);
        END IF;
        PERFORM engine_wall(parent::regclass, CASE parent
            WHEN 'order_events' THEN 'EXISTS (SELECT FROM orders o WHERE o.id = order_events.order_id)'
            ELSE format('EXISTS (SELECT FROM trade_intents i WHERE i.id = %I.intent_id)', parent) END);
        IF role THEN
            EXECUTE format('REVOKE ALL ON %I FROM engine_app', parent || '_before');
            EXECUTE format('GRANT SELECT, INSERT ON %I TO engine_app', parent);
        END IF;
        EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', parent || '_default', parent);
        PERFORM engine_guard_part(parent, parent || '_default');
        IF held THEN
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)',
                parent, parent || '_before',
                (date_trunc('month', newest AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC');
        ELSE
            EXECUTE format('DROP TABLE %I', parent || '_before');
        END IF;
    END LOOP;

    SELECT coalesce(max(seq), 0) INTO follows FROM audit_logs;
    -- no chain forks while its numbers are unique; an index of random hashes is a page to disk for every record
    ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_hash_key;
    ALTER TABLE audit_logs RENAME TO audit_logs_before;
    ALTER TABLE audit_logs_before RENAME CONSTRAINT audit_logs_pkey TO audit_logs_before_pkey;
    ALTER INDEX audit_logs_subject RENAME TO audit_logs_before_subject;
    CREATE TABLE audit_logs (LIKE audit_logs_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY RANGE (seq);
    ALTER TABLE audit_logs ADD PRIMARY KEY (seq);
    CREATE INDEX audit_logs_subject ON audit_logs (subject, seq);
    CREATE TRIGGER audit_logs_no_truncate BEFORE TRUNCATE ON audit_logs
        FOR EACH STATEMENT EXECUTE FUNCTION audit_logs_append_only();
    IF current_setting('server_version_num')::integer >= 130000 THEN
        DROP TRIGGER audit_logs_no_change ON audit_logs_before;
        CREATE TRIGGER audit_logs_no_change BEFORE UPDATE OR DELETE ON audit_logs
            FOR EACH ROW EXECUTE FUNCTION audit_logs_append_only();
    END IF;
    CREATE TABLE audit_logs_default PARTITION OF audit_logs DEFAULT;
    PERFORM engine_guard_part('audit_logs', 'audit_logs_default');
    IF follows > 0 THEN
        EXECUTE format('ALTER TABLE audit_logs ATTACH PARTITION audit_logs_before FOR VALUES FROM (MINVALUE) TO (%s)',
            (follows / engine_audit_part_size() + 1) * engine_audit_part_size());
    ELSE
        DROP TABLE audit_logs_before;
    END IF;
    -- the planner's, of the tables as a whole: autovacuum sees to the parts alone
    ANALYZE intent_events, order_events, risk_verdicts, audit_logs;

    EXECUTE format('ALTER FUNCTION engine_keep_parts(integer) SET search_path = %I, pg_temp', current_schema());
    REVOKE ALL ON FUNCTION engine_keep_parts(integer), engine_drop_months(timestamptz),
        engine_add_part(text, text, text, text, text), engine_guard_part(text, text) FROM PUBLIC;
    IF role THEN
        REVOKE ALL ON audit_logs FROM engine_app;
        GRANT SELECT, INSERT ON audit_logs TO engine_app;
        IF to_regclass('audit_logs_before') IS NOT NULL THEN
            REVOKE ALL ON audit_logs_before FROM engine_app;
        END IF;
        GRANT EXECUTE ON FUNCTION engine_keep_parts(integer) TO engine_app;
    END IF;
    PERFORM engine_keep_parts(2);
END $$;
