-- Holds the number of a change that comes from elsewhere; nothing is done.
SELECT 1;
