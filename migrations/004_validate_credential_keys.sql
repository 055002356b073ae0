-- Validates the foreign key of 003 for the rows that stood before it: one scan of integration_credentials under
-- SHARE UPDATE EXCLUSIVE, beside which everybody reads and writes.
--
-- Rows whose key nobody knows are no reason to stop a deployment: they stay, with a warning, and the foreign key
-- goes on guarding every new write. Once they are repaired or gone, run this file by hand.
DO $$
DECLARE
    unknown BIGINT;
BEGIN
    SELECT count(*)
    INTO unknown
    FROM integration_credentials AS credential
    WHERE NOT EXISTS (
        SELECT FROM vault_key_material AS material
        WHERE material.data_key_id = credential.encryption_key_id
    );

    IF unknown > 0 THEN
        RAISE WARNING '% rows of integration_credentials name an encryption_key_id that the vault does not know: '
            'the foreign key stays NOT VALID; repair or delete them, then run this file again', unknown;
    ELSE
        ALTER TABLE integration_credentials
            VALIDATE CONSTRAINT integration_credentials_encryption_key_id_fkey;
    END IF;
END
$$;
