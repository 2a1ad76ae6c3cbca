-- Migration 0002 adds no table.
SELECT 1;
