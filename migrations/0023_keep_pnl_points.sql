-- What each user's day had come to, minute by minute: the curve of the console outlives a restart.

CREATE TABLE pnl_points (
    user_id uuid NOT NULL REFERENCES users,
    minute  timestamptz NOT NULL,               -- its beginning; the figure is the last one kept in it
    pnl     numeric NOT NULL,                   -- rupees, net of charges
    PRIMARY KEY (user_id, minute)
);

SELECT engine_wall('pnl_points', 'user_id = ANY ((SELECT engine_ids(''engine.user_id''))::uuid[])');

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON pnl_points TO engine_app;
    END IF;
END $$;
