-- Second factors, what is known of each session, API tokens for programs, and how often signing in failed in a row.

ALTER TABLE users
    ADD COLUMN failed_logins integer NOT NULL DEFAULT 0,         -- in a row, from everywhere; a success ends the row
    ADD COLUMN short_password boolean NOT NULL DEFAULT false;    -- too short to be the only factor

ALTER TABLE refresh_tokens ADD COLUMN reused_at timestamptz;      -- two parties held it: its family was revoked for that

CREATE TABLE user_factors (
    user_id      uuid PRIMARY KEY REFERENCES users,
    seed         bytea NOT NULL,                 -- AES-256-GCM envelope, bound to user_id and row_version
    row_version  integer NOT NULL DEFAULT 1,
    created_at   timestamptz NOT NULL,
    confirmed_at timestamptz,                    -- null until the first code: it does not count before
    last_step    bigint,                         -- time step of the last code that was used: each counts once
    failures     integer NOT NULL DEFAULT 0      -- wrong codes in a row
);

CREATE TABLE recovery_codes (
    user_id    uuid NOT NULL REFERENCES users,
    code_hash  bytea NOT NULL,                   -- SHA-256 of 80 random bits; the code itself is never stored
    created_at timestamptz NOT NULL,
    used_at    timestamptz,
    PRIMARY KEY (user_id, code_hash)
);

CREATE TABLE user_sessions (
    id               uuid PRIMARY KEY,           -- the family of refresh tokens
    user_id          uuid NOT NULL REFERENCES users,
    began_at         timestamptz NOT NULL,
    authenticated_at timestamptz NOT NULL,       -- when the password or a code was given last
    last_used_at     timestamptz NOT NULL,       -- sign-in or the last refresh
    device           text NOT NULL DEFAULT '',   -- User-Agent of the sign-in
    began_ip         text NOT NULL DEFAULT '',
    last_ip          text NOT NULL DEFAULT ''
);
CREATE INDEX user_sessions_user ON user_sessions (user_id, began_at DESC);
INSERT INTO user_sessions (id, user_id, began_at, authenticated_at, last_used_at)
    SELECT family_id, (array_agg(user_id))[1], min(issued_at), min(issued_at), max(issued_at)
    FROM refresh_tokens GROUP BY family_id;

CREATE TABLE api_tokens (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users,
    name         text NOT NULL,
    token_hash   bytea NOT NULL UNIQUE,          -- SHA-256; the token itself is never stored
    scopes       text[] NOT NULL CHECK (scopes <@ ARRAY['READ', 'TRADE', 'ADMIN', 'KILL'] AND cardinality(scopes) > 0),
    ip_allowlist text[] NOT NULL DEFAULT '{}',   -- empty: from anywhere
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    last_used_ip text,
    revoked_at   timestamptz
);
CREATE INDEX api_tokens_user ON api_tokens (user_id) WHERE revoked_at IS NULL;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE, DELETE ON user_factors, recovery_codes TO engine_app;
        GRANT SELECT, INSERT, UPDATE ON user_sessions, api_tokens TO engine_app;
    END IF;
END $$;
