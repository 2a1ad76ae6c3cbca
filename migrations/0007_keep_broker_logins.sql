-- What the broker said at the last login of an account: whose session it is, since when, and what it may use.
-- A token that was only pasted in has no user until a profile is read with it.

CREATE TABLE account_logins (
    account_id     uuid PRIMARY KEY REFERENCES kite_accounts,
    broker_user_id text,
    logged_in_at   timestamptz,                 -- as the broker dates the token, else when it came
    exchanges      text[] NOT NULL DEFAULT '{}',
    products       text[] NOT NULL DEFAULT '{}',
    updated_at     timestamptz NOT NULL
);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON account_logins TO engine_app;
    END IF;
END $$;
