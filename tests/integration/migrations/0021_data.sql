-- Nothing of its own: see 0001.
SELECT 1;
