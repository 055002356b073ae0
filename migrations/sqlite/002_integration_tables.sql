-- What an organization is connected to, the credential of each connection, and what GitHub told us about it.
--
-- To older SQLite (3.40, for one) json_valid(NULL) is false, so a column that may be NULL says so.

CREATE TABLE IF NOT EXISTS integrations (
    id                        TEXT    NOT NULL PRIMARY KEY
        CHECK (id GLOB '????????-????-????-????-????????????' AND id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(id, '-', '')) = 32 AND length(CAST(id AS BLOB)) = 36),
    organization_id           TEXT    NOT NULL
        CHECK (organization_id GLOB '????????-????-????-????-????????????' AND organization_id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(organization_id, '-', '')) = 32 AND length(CAST(organization_id AS BLOB)) = 36),
    user_id                   TEXT    NOT NULL,
    connector_type            TEXT    NOT NULL, -- github, slack, gcp, aws, pagerduty, datadog
    status                    TEXT    NOT NULL, -- active, inactive, pending, not_started, suspended, deleted
    bot_id                    TEXT,             -- for GitHub the installation id
    connector_user_id         TEXT,
    connector_organization_id TEXT,
    metadata                  TEXT    CHECK (metadata IS NULL OR json_valid(metadata)),
    created_at                INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    updated_at                INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    last_used_at              INTEGER,
    UNIQUE (organization_id, connector_type)
) STRICT;

-- Never WITHOUT ROWID: a rotation walks the table by rowid. No index on encryption_key_id, as on PostgreSQL.
CREATE TABLE IF NOT EXISTS integration_credentials (
    id                        TEXT    NOT NULL PRIMARY KEY
        CHECK (id GLOB '????????-????-????-????-????????????' AND id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(id, '-', '')) = 32 AND length(CAST(id AS BLOB)) = 36),
    integration_id            TEXT    NOT NULL UNIQUE REFERENCES integrations (id) ON DELETE CASCADE
        CHECK (integration_id GLOB '????????-????-????-????-????????????' AND integration_id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(integration_id, '-', '')) = 32 AND length(CAST(integration_id AS BLOB)) = 36),
    credential_type           TEXT    NOT NULL CHECK (length(credential_type) <= 50), -- oauth2, token, service_account
    credential_data_encrypted TEXT    NOT NULL,
    expires_at                INTEGER,
    encryption_key_id         TEXT    NOT NULL CHECK (length(encryption_key_id) <= 50),
    created_at                INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    updated_at                INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)
) STRICT;

-- GitHub App installations seen by webhook that no organization has claimed yet; they expire after 7 days.
CREATE TABLE IF NOT EXISTS unclaimed_installations (
    id                         TEXT    NOT NULL PRIMARY KEY,
    github_installation_id     TEXT    NOT NULL UNIQUE,
    github_app_id              INTEGER NOT NULL,
    github_account_id          INTEGER NOT NULL,
    github_account_login       TEXT    NOT NULL,
    github_account_type        TEXT    NOT NULL, -- User, Organization
    repository_selection       TEXT    NOT NULL, -- all, selected
    permissions                TEXT    NOT NULL CHECK (json_valid(permissions)),
    events                     TEXT    CHECK (events IS NULL OR json_valid(events)),
    access_tokens_url          TEXT,
    repositories_url           TEXT,
    html_url                   TEXT,
    app_slug                   TEXT,
    suspended_at               INTEGER,
    suspended_by               TEXT    CHECK (suspended_by IS NULL OR json_valid(suspended_by)),
    webhook_sender             TEXT    CHECK (webhook_sender IS NULL OR json_valid(webhook_sender)),
    raw_webhook_payload        TEXT    CHECK (raw_webhook_payload IS NULL OR json_valid(raw_webhook_payload)),
    created_at                 INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    github_created_at          INTEGER NOT NULL,
    github_updated_at          INTEGER NOT NULL,
    expires_at                 INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000 + 604800000000),
    claimed_at                 INTEGER,
    claimed_by_organization_id TEXT,
    claimed_by_user_id         TEXT
) STRICT;

CREATE TABLE IF NOT EXISTS github_repositories (
    id                     TEXT    NOT NULL PRIMARY KEY,
    integration_id         TEXT    NOT NULL REFERENCES integrations (id) ON DELETE CASCADE,
    github_repository_id   INTEGER NOT NULL,
    repository_name        TEXT    NOT NULL,
    repository_full_name   TEXT    NOT NULL,
    repository_url         TEXT    NOT NULL,
    is_private             INTEGER NOT NULL DEFAULT 0 CHECK (is_private IN (0, 1)),
    default_branch         TEXT    DEFAULT 'main',
    permission_admin       INTEGER NOT NULL DEFAULT 0 CHECK (permission_admin IN (0, 1)),
    permission_push        INTEGER NOT NULL DEFAULT 0 CHECK (permission_push IN (0, 1)),
    permission_pull        INTEGER NOT NULL DEFAULT 0 CHECK (permission_pull IN (0, 1)),
    repository_description TEXT,
    repository_language    TEXT,
    created_at             INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    updated_at             INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    last_synced_at         INTEGER NOT NULL DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    github_created_at      INTEGER,
    github_updated_at      INTEGER,
    github_pushed_at       INTEGER,
    UNIQUE (integration_id, github_repository_id)
) STRICT;

CREATE INDEX IF NOT EXISTS idx_integrations_organization
    ON integrations (organization_id);
CREATE INDEX IF NOT EXISTS idx_integrations_organization_connector
    ON integrations (organization_id, connector_type);
CREATE INDEX IF NOT EXISTS idx_integrations_status
    ON integrations (status);
CREATE INDEX IF NOT EXISTS idx_integrations_connector_type
    ON integrations (connector_type);
CREATE INDEX IF NOT EXISTS idx_integrations_bot_id
    ON integrations (bot_id)
    WHERE bot_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_integrations_bot_id_connector
    ON integrations (bot_id, connector_type)
    WHERE bot_id IS NOT NULL;

-- integration_id has its index by being unique.
CREATE INDEX IF NOT EXISTS idx_integration_credentials_expires_at
    ON integration_credentials (expires_at)
    WHERE expires_at IS NOT NULL;

CREATE INDEX IF NOT EXISTS idx_unclaimed_installations_expires_at
    ON unclaimed_installations (expires_at)
    WHERE claimed_at IS NULL;
CREATE INDEX IF NOT EXISTS idx_unclaimed_installations_created_at
    ON unclaimed_installations (created_at)
    WHERE claimed_at IS NULL;
CREATE INDEX IF NOT EXISTS idx_unclaimed_installations_app
    ON unclaimed_installations (github_app_id);
CREATE INDEX IF NOT EXISTS idx_unclaimed_installations_account
    ON unclaimed_installations (github_account_id);

CREATE INDEX IF NOT EXISTS idx_github_repositories_integration
    ON github_repositories (integration_id);
CREATE INDEX IF NOT EXISTS idx_github_repositories_github_id
    ON github_repositories (github_repository_id);
CREATE INDEX IF NOT EXISTS idx_github_repositories_full_name
    ON github_repositories (repository_full_name);
CREATE INDEX IF NOT EXISTS idx_github_repositories_last_synced_at
    ON github_repositories (last_synced_at);
