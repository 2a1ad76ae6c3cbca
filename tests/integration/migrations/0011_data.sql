-- A verdict, and limits of a strategy beside those of its user: one set for each.
INSERT INTO risk_verdicts (intent_id, at, body) VALUES ('00000000-0000-0000-0000-000000000005', now(), '{}');
INSERT INTO risk_limits (id, user_id, limits, created_at, updated_at, strategy_id)
    VALUES ('00000000-0000-0000-0000-000000000111', '00000000-0000-0000-0000-000000000001', '{"maxOrderQuantity": 10}', now(), now(), '00000000-0000-0000-0000-000000000003');
DO $$
BEGIN
    BEGIN
        INSERT INTO risk_limits (id, user_id, limits, created_at, updated_at, strategy_id)
            VALUES ('00000000-0000-0000-0000-000000000112', '00000000-0000-0000-0000-000000000001', '{}', now(), now(), '00000000-0000-0000-0000-000000000003');
        RAISE EXCEPTION 'a strategy has two sets of limits';
    EXCEPTION WHEN unique_violation THEN NULL;
    END;
    BEGIN
        INSERT INTO risk_limits (id, user_id, limits, created_at, updated_at)
            VALUES ('00000000-0000-0000-0000-000000000113', '00000000-0000-0000-0000-000000000001', '{}', now(), now());
        RAISE EXCEPTION 'a user has two sets of limits';
    EXCEPTION WHEN unique_violation THEN NULL;
    END;
END $$;
