-- Nothing of its own: see 0014 and 0017.
SELECT 1;
