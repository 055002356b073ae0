-- Has integration_credentials analyzed once its rows have changed ten times over, in place of each time that a tenth of
-- them has. A rotation changes all of them, and nothing but the key that they are under. An ANALYZE that autovacuum begins beside
-- it keeps a snapshot for seconds: until that ends no place of an old version is free again, the new versions find no
-- room where they belong, and the table grows.
--
-- Who has set this for the table keeps what was set. The lock, SHARE UPDATE EXCLUSIVE, lets everybody read and write;
-- a VACUUM or ANALYZE by hand, or one against wraparound, makes it wait.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM pg_class AS credentials, unnest(credentials.reloptions) AS setting
        WHERE credentials.oid = 'integration_credentials'::regclass
            AND setting LIKE 'autovacuum\_analyze\_scale\_factor=%'
    ) THEN
        ALTER TABLE integration_credentials SET (autovacuum_analyze_scale_factor = 10);
    END IF;
END
$$;
