-- The vault's own tables, and the guards between them and integration_credentials.
--
-- SQLite can't add a foreign key to a table that stands, and enforces none for a program that leaves the pragma
-- foreign_keys off: triggers guard the keys here, for every program.

-- One row: which vault this is, and how far the adoption of the rows under 'v1' has come.
-- WITHOUT ROWID: an integer key that is the rowid has no default.
CREATE TABLE IF NOT EXISTS vault_identity (
    singleton  INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (singleton = 1),
    vault_id   TEXT    NOT NULL
        CHECK (vault_id GLOB '????????-????-????-????-????????????' AND vault_id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(vault_id, '-', '')) = 32 AND length(CAST(vault_id AS BLOB)) = 36),
    phase      TEXT    NOT NULL DEFAULT 'none'
        CHECK (phase IN ('none', 'observe', 're-encrypt', 'cut-over')),
    created_at INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)
) STRICT, WITHOUT ROWID;

-- Master keys wrap data keys. The key itself is never here: only what its provider needs to find it again.
CREATE TABLE IF NOT EXISTS vault_master_keys (
    id              TEXT    NOT NULL PRIMARY KEY
        CHECK (id GLOB '????????-????-????-????-????????????' AND id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(id, '-', '')) = 32 AND length(CAST(id AS BLOB)) = 36),
    organization_id TEXT
        CHECK (organization_id IS NULL OR organization_id GLOB '????????-????-????-????-????????????' AND organization_id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(organization_id, '-', '')) = 32 AND length(CAST(organization_id AS BLOB)) = 36),
    provider        TEXT    NOT NULL CHECK (length(provider) <= 50),
    provider_record TEXT    NOT NULL CHECK (length(provider_record) <= 65536),
    key_check       BLOB    NOT NULL CHECK (length(key_check) = 16),
    state           TEXT    NOT NULL
        CHECK (state IN ('pre-active', 'active', 'deactivated', 'destroyed')),
    created_at      INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    activated_at    INTEGER,
    deactivated_at  INTEGER,
    destroyed_at    INTEGER
) STRICT;

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
    id              TEXT    NOT NULL PRIMARY KEY CHECK (length(id) <= 50),
    organization_id TEXT
        CHECK (organization_id IS NULL OR organization_id GLOB '????????-????-????-????-????????????' AND organization_id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(organization_id, '-', '')) = 32 AND length(CAST(organization_id AS BLOB)) = 36),
    state           TEXT    NOT NULL
        CHECK (state IN ('pre-active', 'active', 'deactivated', 'destroyed')),
    key_check       BLOB    CHECK (length(key_check) = 16),
    created_at      INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    activated_at    INTEGER,
    deactivated_at  INTEGER,
    destroyed_at    INTEGER,
    compromised_at  INTEGER,
    unused_since    INTEGER,
    drain_run_id    INTEGER, -- the run that captured, after the switch that this key's state is from
    -- Before its adoption nobody knows the key 'v1'.
    CONSTRAINT vault_data_keys_key_check_known CHECK (key_check IS NOT NULL OR id = 'v1')
) STRICT;

-- One index for the shared key and one for those of organizations: NULLs do not collide in a unique index.
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
-- and a trigger below refuses that as long as any row is sealed under it.
CREATE TABLE IF NOT EXISTS vault_key_material (
    data_key_id   TEXT NOT NULL PRIMARY KEY REFERENCES vault_data_keys (id),
    master_key_id TEXT REFERENCES vault_master_keys (id),
    wrapped_key   TEXT,
    CONSTRAINT vault_key_material_wrapped CHECK ((master_key_id IS NULL) = (wrapped_key IS NULL)),
    -- The placeholder of 'v1' keeps the rows of a service that has not been adopted yet valid.
    CONSTRAINT vault_key_material_known CHECK (wrapped_key IS NOT NULL OR data_key_id = 'v1')
) STRICT;

-- The id of a run is its fencing number: a later run has a higher one, and a run that lost its lease to it
-- can write nothing more. AUTOINCREMENT: a number is never used twice.
CREATE TABLE IF NOT EXISTS vault_rotation_runs (
    id               INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    kind             TEXT    NOT NULL CHECK (kind IN ('rotate', 'rewrap')),
    owner            TEXT    NOT NULL CHECK (length(owner) <= 255),
    lease_expires_at INTEGER NOT NULL,
    started_at       INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    finished_at      INTEGER,
    outcome          TEXT
        CHECK (outcome IN ('complete', 'work-remains', 'findings', 'failed', 'lease-lost')),
    counts           TEXT    NOT NULL DEFAULT '{}' CHECK (json_valid(counts)),
    captured         TEXT    CHECK (captured IS NULL OR json_valid(captured)), -- nobody here: one writer waits for the other
    drained_at       INTEGER -- when the last of them had ended
) STRICT;

CREATE UNIQUE INDEX IF NOT EXISTS vault_rotation_runs_one_unfinished
    ON vault_rotation_runs ((finished_at IS NULL))
    WHERE finished_at IS NULL;

-- Rows that could not be opened: left as they are, and keeping their key alive.
CREATE TABLE IF NOT EXISTS vault_quarantine (
    integration_id TEXT    NOT NULL PRIMARY KEY REFERENCES integrations (id) ON DELETE CASCADE
        CHECK (integration_id GLOB '????????-????-????-????-????????????' AND integration_id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(integration_id, '-', '')) = 32 AND length(CAST(integration_id AS BLOB)) = 36),
    reason         TEXT    NOT NULL CHECK (length(reason) <= 50),
    since          INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    stored_sha256  BLOB    NOT NULL CHECK (length(stored_sha256) = 32)
) STRICT;

-- The key of the rows that are older than the vault. It must stand before the guards do.
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
CREATE TRIGGER IF NOT EXISTS vault_refuse_unknown_key_on_insert
BEFORE INSERT ON integration_credentials
WHEN NOT EXISTS (SELECT 1 FROM vault_key_material WHERE data_key_id = NEW.encryption_key_id)
BEGIN
    SELECT RAISE(ABORT, 'integration_credentials.encryption_key_id names no key of vault_key_material');
END;

CREATE TRIGGER IF NOT EXISTS vault_refuse_unknown_key_on_update
BEFORE UPDATE OF encryption_key_id ON integration_credentials
WHEN NEW.encryption_key_id <> OLD.encryption_key_id
    AND NOT EXISTS (SELECT 1 FROM vault_key_material WHERE data_key_id = NEW.encryption_key_id)
BEGIN
    SELECT RAISE(ABORT, 'integration_credentials.encryption_key_id names no key of vault_key_material');
END;

CREATE TRIGGER IF NOT EXISTS vault_refuse_delete_of_used_material
BEFORE DELETE ON vault_key_material
WHEN EXISTS (SELECT 1 FROM integration_credentials WHERE encryption_key_id = OLD.data_key_id)
BEGIN
    SELECT RAISE(ABORT, 'vault_key_material is still used by rows of integration_credentials');
END;

CREATE TRIGGER IF NOT EXISTS vault_refuse_rename_of_material
BEFORE UPDATE OF data_key_id ON vault_key_material
WHEN NEW.data_key_id <> OLD.data_key_id
BEGIN
    SELECT RAISE(ABORT, 'vault_key_material.data_key_id never changes');
END;

-- Material belongs to a data key and to a master key that stand.
CREATE TRIGGER IF NOT EXISTS vault_refuse_material_of_unknown_key
BEFORE INSERT ON vault_key_material
WHEN NOT EXISTS (SELECT 1 FROM vault_data_keys WHERE id = NEW.data_key_id)
    OR (
        NEW.master_key_id IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM vault_master_keys WHERE id = NEW.master_key_id)
    )
BEGIN
    SELECT RAISE(ABORT, 'vault_key_material names a data key or a master key that does not exist');
END;

CREATE TRIGGER IF NOT EXISTS vault_refuse_rewrap_by_unknown_key
BEFORE UPDATE OF master_key_id ON vault_key_material
WHEN NEW.master_key_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM vault_master_keys WHERE id = NEW.master_key_id)
BEGIN
    SELECT RAISE(ABORT, 'vault_key_material names a master key that does not exist');
END;

CREATE TRIGGER IF NOT EXISTS vault_refuse_delete_of_used_data_key
BEFORE DELETE ON vault_data_keys
WHEN EXISTS (SELECT 1 FROM vault_key_material WHERE data_key_id = OLD.id)
BEGIN
    SELECT RAISE(ABORT, 'vault_data_keys: the key still has material');
END;

CREATE TRIGGER IF NOT EXISTS vault_refuse_delete_of_used_master_key
BEFORE DELETE ON vault_master_keys
WHEN EXISTS (SELECT 1 FROM vault_key_material WHERE master_key_id = OLD.id)
BEGIN
    SELECT RAISE(ABORT, 'vault_master_keys: the key still wraps a data key');
END;

-- After the cut-over nothing is written under 'v1' any more.
CREATE TRIGGER IF NOT EXISTS vault_refuse_v1_insert_after_cut_over
BEFORE INSERT ON integration_credentials
WHEN NEW.encryption_key_id = 'v1'
    AND EXISTS (SELECT 1 FROM vault_identity WHERE phase = 'cut-over')
BEGIN
    SELECT RAISE(ABORT, 'the key v1 is closed since the cut-over: write through the vault');
END;

CREATE TRIGGER IF NOT EXISTS vault_refuse_v1_update_after_cut_over
BEFORE UPDATE OF encryption_key_id, credential_data_encrypted ON integration_credentials
WHEN NEW.encryption_key_id = 'v1'
    AND EXISTS (SELECT 1 FROM vault_identity WHERE phase = 'cut-over')
BEGIN
    SELECT RAISE(ABORT, 'the key v1 is closed since the cut-over: write through the vault');
END;
