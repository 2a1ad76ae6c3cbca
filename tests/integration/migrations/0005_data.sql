-- Migration 0005 holds a number only.
SELECT 1;
