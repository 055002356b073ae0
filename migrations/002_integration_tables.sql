-- What an organization is connected to, the credential of each connection, and what GitHub told us about it.

CREATE TABLE IF NOT EXISTS integrations (
    id                        UUID         PRIMARY KEY,
    organization_id           UUID         NOT NULL,
    user_id                   UUID         NOT NULL,
    connector_type            VARCHAR(50)  NOT NULL, -- github, slack, gcp, aws, pagerduty, datadog
    status                    VARCHAR(20)  NOT NULL, -- active, inactive, pending, not_started, suspended, deleted
    bot_id                    VARCHAR(255),          -- for GitHub the installation id
    connector_user_id         VARCHAR(255),
    connector_organization_id VARCHAR(255),
    metadata                  JSONB,
    created_at                TIMESTAMP    NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    updated_at                TIMESTAMP    NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    last_used_at              TIMESTAMP,
    UNIQUE (organization_id, connector_type)
);

-- No index on encryption_key_id: with one, no re-encryption could be a heap-only update. The fillfactor leaves
-- room on each page for the new version of a row, so that a rotation does not grow the table.
CREATE TABLE IF NOT EXISTS integration_credentials (
    id                        UUID        PRIMARY KEY,
    integration_id            UUID        NOT NULL UNIQUE REFERENCES integrations (id) ON DELETE CASCADE,
    credential_type           VARCHAR(50) NOT NULL, -- oauth2, token, service_account
    credential_data_encrypted TEXT        NOT NULL,
    expires_at                TIMESTAMP,
    encryption_key_id         VARCHAR(50) NOT NULL,
    created_at                TIMESTAMP   NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    updated_at                TIMESTAMP   NOT NULL DEFAULT (now() AT TIME ZONE 'utc')
) WITH (fillfactor = 85);

-- GitHub App installations seen by webhook that no organization has claimed yet; they expire after 7 days.
CREATE TABLE IF NOT EXISTS unclaimed_installations (
    id                         UUID         PRIMARY KEY,
    github_installation_id     VARCHAR(50)  NOT NULL UNIQUE,
    github_app_id              BIGINT       NOT NULL,
    github_account_id          BIGINT       NOT NULL,
    github_account_login       VARCHAR(255) NOT NULL,
    github_account_type        VARCHAR(50)  NOT NULL, -- User, Organization
    repository_selection       VARCHAR(20)  NOT NULL, -- all, selected
    permissions                JSONB        NOT NULL,
    events                     TEXT[],
    access_tokens_url          VARCHAR(512),
    repositories_url           VARCHAR(512),
    html_url                   VARCHAR(512),
    app_slug                   VARCHAR(255),
    suspended_at               TIMESTAMP,
    suspended_by               JSONB,
    webhook_sender             JSONB,
    raw_webhook_payload        JSONB,
    created_at                 TIMESTAMP    NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    github_created_at          TIMESTAMP    NOT NULL,
    github_updated_at          TIMESTAMP    NOT NULL,
    expires_at                 TIMESTAMP    NOT NULL DEFAULT ((now() AT TIME ZONE 'utc') + INTERVAL '7 days'),
    claimed_at                 TIMESTAMP,
    claimed_by_organization_id UUID,
    claimed_by_user_id         UUID
);

CREATE TABLE IF NOT EXISTS github_repositories (
    id                     UUID         PRIMARY KEY,
    integration_id         UUID         NOT NULL REFERENCES integrations (id) ON DELETE CASCADE,
    github_repository_id   BIGINT       NOT NULL,
    repository_name        VARCHAR(255) NOT NULL,
    repository_full_name   VARCHAR(512) NOT NULL,
    repository_url         VARCHAR(512) NOT NULL,
    is_private             BOOLEAN      NOT NULL DEFAULT false,
    default_branch         VARCHAR(255) DEFAULT 'main',
    permission_admin       BOOLEAN      NOT NULL DEFAULT false,
    permission_push        BOOLEAN      NOT NULL DEFAULT false,
    permission_pull        BOOLEAN      NOT NULL DEFAULT false,
    repository_description TEXT,
    repository_language    VARCHAR(50),
    created_at             TIMESTAMP    NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    updated_at             TIMESTAMP    NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    last_synced_at         TIMESTAMP    NOT NULL DEFAULT (now() AT TIME ZONE 'utc'),
    github_created_at      TIMESTAMP,
    github_updated_at      TIMESTAMP,
    github_pushed_at       TIMESTAMP,
    UNIQUE (integration_id, github_repository_id)
);

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
