-- Migration 0006 holds a number only.
SELECT 1;
