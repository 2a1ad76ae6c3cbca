-- Rows in the tables of migration 0003.
INSERT INTO journal_attempts (epoch, position, attempts) VALUES ('00000000-0000-0000-0000-000000000008', '1-2', 1);
UPDATE dead_letters SET kind = 'POISON', subject = 'journal:1-2', decided_by = 'cli', decided_at = now();
