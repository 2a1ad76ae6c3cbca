-- The last login of the account of migration 0001.
INSERT INTO account_logins (account_id, broker_user_id, logged_in_at, exchanges, products, updated_at)
    VALUES ('00000000-0000-0000-0000-000000000002', 'AB0001', now(), '{NSE,NFO}', '{CNC,MIS}', now());
