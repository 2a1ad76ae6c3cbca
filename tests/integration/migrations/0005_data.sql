SELECT 1;  -- 0005 holds a number: nothing to check
