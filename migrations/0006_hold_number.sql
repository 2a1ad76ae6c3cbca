-- Holds the number until the branch that owns it is merged; dropped then.
SELECT 1;
