-- The data keys of secrets that later versions brought: a key stays for as long as one record needs it (see 0015).

ALTER TABLE signal_sources
    ADD COLUMN old_secret_key bytea GENERATED ALWAYS AS (data_key_of(old_secret)) STORED REFERENCES data_keys (id);
ALTER TABLE user_factors
    ADD COLUMN seed_key bytea GENERATED ALWAYS AS (data_key_of(seed)) STORED REFERENCES data_keys (id);

SELECT engine_wall('data_key_wraps', 'EXISTS (SELECT FROM data_keys k WHERE k.id = data_key_wraps.key_id)');
