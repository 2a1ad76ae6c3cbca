-- Nothing of its own: see 0001 and 0011.
SELECT 1;
