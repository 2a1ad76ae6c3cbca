-- Holds the number of a migration that comes from another branch; it is replaced at the merge.

SELECT 1;
