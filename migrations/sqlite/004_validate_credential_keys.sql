-- On PostgreSQL this validates the foreign key of 003. Here triggers guard the keys, and there is nothing to do.
SELECT 1;
