-- The vault's own tables, and the guards between them and integration_credentials.
--
-- Safe on a live table: the locks are short, no row is rewritten, and a service that still writes rows under
-- the key 'v1', as a role without any right on the tables below, goes on doing so.

-- One row: which vault this is, and how far the adoption of the rows under 'v1' has come.
CREATE TABLE IF NOT EXISTS vault_identity (
    singleton  BOOLEAN     PRIMARY KEY DEFAULT true CHECK (singleton),
    vault_id   UUID        NOT NULL,
    phase      VARCHAR(20) NOT NULL DEFAULT 'none'
        CHECK (phase IN ('none', 'observe', 're-encrypt', 'cut-over')),
    created_at TIMESTAMP   NOT NULL DEFAULT (now() AT TIME ZONE 'utc')
);

-- Master keys wrap data keys. The key itself is never here: only what its provider needs to find it again.
-- organization_id NULL: the key wraps the data keys of all that have no master key of their own.
CREATE TABLE IF NOT EXISTS vault_master_keys (
    id              UUID        PRIMARY KEY,
    organization_id UUID,
    provider        VARCHAR(50) NOT NULL,
    provider_record TEXT        NOT NULL CHECK (length(provider_record) <= 65536),
    key_check       BYTEA       NOT NULL CHECK (octet_length(key_check) = 16),
    state           VARCHAR(20) NOT NULL
        CHECK (state IN ('pre-active', 'active', 'deactivated', 'destroyed')),
    created_at      TIMESTAMP   NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    activated_at    TIMESTAMP,
    deactivated_at  TIMESTAMP,
    destroyed_at    TIMESTAMP
);

-- One index for the shared key and one for those of organizations: NULLs do not collide in a unique index.
CREATE UNIQUE INDEX IF NOT EXISTS vault_master_keys_one_active_shared
    ON vault_master_keys (state)
    WHERE state = 'active' AND organization_id IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS vault_master_keys_one_active_per_organization
    ON vault_master_keys (organization_id)
    WHERE state = 'active' AND organization_id IS NOT NULL;

-- Data keys seal rows. A row stays as a tombstone when its key is destroyed, so that its id is never used again.
-- organization_id NULL: the key is shared by all organizations that have none of their own.
-- unused_since: nothing is sealed under the key any more, and nothing can be; the grace time counts from it.
CREATE TABLE IF NOT EXISTS vault_data_keys (
    id              VARCHAR(50) PRIMARY KEY,
    organization_id UUID,
    state           VARCHAR(20) NOT NULL
        CHECK (state IN ('pre-active', 'active', 'deactivated', 'destroyed')),
    key_check       BYTEA       CHECK (octet_length(key_check) = 16),
    created_at      TIMESTAMP   NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    activated_at    TIMESTAMP,
    deactivated_at  TIMESTAMP,
    destroyed_at    TIMESTAMP,
    compromised_at  TIMESTAMP,
    unused_since    TIMESTAMP,
    drain_run_id    BIGINT, -- the run that captured, after the switch that this key's state is from
    -- Before its adoption nobody knows the key 'v1'.
    CONSTRAINT vault_data_keys_key_check_known CHECK (key_check IS NOT NULL OR id = 'v1')
);

CREATE UNIQUE INDEX IF NOT EXISTS vault_data_keys_one_active_shared
    ON vault_data_keys (state)
    WHERE state = 'active' AND organization_id IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS vault_data_keys_one_active_per_organization
    ON vault_data_keys (organization_id)
    WHERE state = 'active' AND organization_id IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS vault_data_keys_one_pre_active_shared
    ON vault_data_keys (state)
    WHERE state = 'pre-active' AND organization_id IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS vault_data_keys_one_pre_active_per_organization
    ON vault_data_keys (organization_id)
    WHERE state = 'pre-active' AND organization_id IS NOT NULL;

-- What opens a data key: the key, wrapped by a master key. To destroy a data key is to delete its row here,
-- and the foreign key below refuses that as long as any row is sealed under it.
CREATE TABLE IF NOT EXISTS vault_key_material (
    data_key_id   VARCHAR(50) PRIMARY KEY REFERENCES vault_data_keys (id),
    master_key_id UUID        REFERENCES vault_master_keys (id),
    wrapped_key   TEXT,
    CONSTRAINT vault_key_material_wrapped CHECK ((master_key_id IS NULL) = (wrapped_key IS NULL)),
    -- The placeholder of 'v1' keeps the rows of a service that has not been adopted yet valid.
    CONSTRAINT vault_key_material_known CHECK (wrapped_key IS NOT NULL OR data_key_id = 'v1')
);

-- The id of a run is its fencing number: a later run has a higher one, and a run that lost its lease to it
-- can write nothing more.
CREATE TABLE IF NOT EXISTS vault_rotation_runs (
    id               BIGINT       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind             VARCHAR(20)  NOT NULL CHECK (kind IN ('rotate', 'rewrap')),
    owner            VARCHAR(255) NOT NULL,
    lease_expires_at TIMESTAMP    NOT NULL,
    started_at       TIMESTAMP    NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    finished_at      TIMESTAMP,
    outcome          VARCHAR(20)
        CHECK (outcome IN ('complete', 'work-remains', 'findings', 'failed', 'lease-lost')),
    counts           JSONB        NOT NULL DEFAULT '{}',
    captured         JSONB, -- the transactions that may still write under the key of before a switch
    drained_at       TIMESTAMP -- when the last of them had ended
);

CREATE UNIQUE INDEX IF NOT EXISTS vault_rotation_runs_one_unfinished
    ON vault_rotation_runs ((finished_at IS NULL))
    WHERE finished_at IS NULL;

-- Rows that could not be opened: left as they are, and keeping their key alive.
CREATE TABLE IF NOT EXISTS vault_quarantine (
    integration_id UUID        PRIMARY KEY REFERENCES integrations (id) ON DELETE CASCADE,
    reason         VARCHAR(50) NOT NULL,
    since          TIMESTAMP   NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    stored_sha256  BYTEA       NOT NULL CHECK (octet_length(stored_sha256) = 32)
);

-- The key of the rows that are older than the vault. It must stand before the foreign key does.
INSERT INTO vault_data_keys (id, state)
VALUES ('v1', 'deactivated')
ON CONFLICT (id) DO NOTHING;

-- Once 'v1' is destroyed its placeholder must not come back, however often this file is run.
INSERT INTO vault_key_material (data_key_id)
SELECT id
FROM vault_data_keys
WHERE id = 'v1'
  AND state <> 'destroyed'
ON CONFLICT (data_key_id) DO NOTHING;

-- A row can't name a key that has no material, and material that a row names can't be deleted.
-- NOT VALID: checks every write from now on and scans nothing. Takes SHARE ROW EXCLUSIVE on both tables, for a
-- moment: writes wait, reads do not. The next migration validates the rows that stood before.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = 'integration_credentials'::regclass
          AND conname = 'integration_credentials_encryption_key_id_fkey'
    ) THEN
        ALTER TABLE integration_credentials
            ADD CONSTRAINT integration_credentials_encryption_key_id_fkey
            FOREIGN KEY (encryption_key_id) REFERENCES vault_key_material (data_key_id)
            NOT VALID;
    END IF;
END
$$;

-- After the cut-over nothing is written under 'v1' any more. The phase is data, as the roles of a service may
-- not alter tables. SECURITY DEFINER: the writer needs no right on vault_identity; hence the fixed search_path,
-- which names the schema of these tables, whichever it is.
-- CREATE TRIGGER takes SHARE ROW EXCLUSIVE on integration_credentials for a moment.
DO $$
DECLARE
    home CONSTANT name := current_schema();
BEGIN
    IF to_regprocedure(format('%I.vault_refuse_v1_after_cut_over()', home)) IS NULL THEN
        EXECUTE format(
            $statement$
            CREATE FUNCTION %1$I.vault_refuse_v1_after_cut_over()
            RETURNS trigger
            LANGUAGE plpgsql
            SECURITY DEFINER
            SET search_path = %1$I, pg_temp
            AS $function$
            BEGIN
                IF EXISTS (SELECT FROM vault_identity WHERE phase = 'cut-over') THEN
                    RAISE EXCEPTION 'the key v1 is closed since the cut-over: write through the vault'
                        USING ERRCODE = 'restrict_violation',
                              TABLE = 'integration_credentials',
                              COLUMN = 'encryption_key_id';
                END IF;
                RETURN NEW;
            END
            $function$
            $statement$,
            home
        );
        -- A trigger runs without this right; nothing else should.
        EXECUTE format(
            'REVOKE EXECUTE ON FUNCTION %I.vault_refuse_v1_after_cut_over() FROM PUBLIC',
            home
        );
    END IF;

    IF NOT EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'integration_credentials'::regclass
          AND tgname = 'vault_refuse_v1_after_cut_over'
    ) THEN
        CREATE TRIGGER vault_refuse_v1_after_cut_over
            BEFORE INSERT OR UPDATE OF encryption_key_id, credential_data_encrypted
            ON integration_credentials
            FOR EACH ROW
            WHEN (NEW.encryption_key_id = 'v1')
            EXECUTE FUNCTION vault_refuse_v1_after_cut_over();
    END IF;
END
$$;
