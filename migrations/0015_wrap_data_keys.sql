-- Data keys, wrapped under key-encryption keys that are never in this database. A record that is sealed under a
-- data key names it; the foreign keys below keep a key for as long as one record needs it.

CREATE TABLE data_keys (
    id         bytea PRIMARY KEY CHECK (length(id) = 8),
    user_id    uuid NOT NULL,                 -- all zeros: of the deployment, for whoever has no key yet
    purpose    text NOT NULL CHECK (purpose IN ('data', 'root')),
    made_under bytea NOT NULL,                -- the key-encryption key that was the newest then
    uses       bigint NOT NULL DEFAULT 0,     -- records sealed, rounded up to what was set aside for engines
    is_active  boolean NOT NULL DEFAULT true, -- seals; the others of a user only open
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX data_keys_active ON data_keys (user_id) WHERE is_active AND purpose = 'data';
CREATE UNIQUE INDEX data_keys_root ON data_keys (purpose) WHERE purpose = 'root';

CREATE TABLE data_key_wraps (
    key_id  bytea NOT NULL REFERENCES data_keys (id) ON DELETE CASCADE,
    kek_id  bytea NOT NULL CHECK (length(kek_id) = 4),
    wrapped bytea NOT NULL,                   -- AES-256-GCM under the key-encryption key
    PRIMARY KEY (key_id, kek_id)
);

-- A record is version(1) | key-encryption key(4) | data key(8) | nonce(12) | ciphertext | tag(16).
CREATE FUNCTION data_key_of(record bytea) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN substring(record FROM 1 FOR 1) = '\x02'::bytea THEN substring(record FROM 6 FOR 8) END;

ALTER TABLE kite_accounts
    ADD COLUMN api_secret_key bytea GENERATED ALWAYS AS (data_key_of(api_secret)) STORED REFERENCES data_keys (id),
    ADD COLUMN access_token_key bytea GENERATED ALWAYS AS (data_key_of(access_token)) STORED REFERENCES data_keys (id);
ALTER TABLE signal_sources
    ADD COLUMN secret_key bytea GENERATED ALWAYS AS (data_key_of(secret)) STORED REFERENCES data_keys (id);

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'engine_app') THEN
        GRANT SELECT, INSERT, UPDATE ON data_keys TO engine_app;
        GRANT SELECT, INSERT ON data_key_wraps TO engine_app;
        GRANT EXECUTE ON FUNCTION data_key_of(bytea) TO engine_app;
    END IF;
END $$;
