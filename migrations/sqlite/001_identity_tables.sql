-- Who the tokens belong to: users, organizations and who is a member of which.
--
-- The types of SQLite, here and in every later migration: a UUID is TEXT, hyphenated and in lower case, which a CHECK
-- holds it to wherever the vault reads one: what is no UUID would end its scans; a timestamp is INTEGER, in microseconds since 1970-01-01 UTC; a list and JSON are TEXT that holds valid JSON.
-- The time of day by julianday, which gives milliseconds: unixepoch('subsec') is NULL before SQLite 3.42.

CREATE TABLE IF NOT EXISTS users (
    id            TEXT    NOT NULL PRIMARY KEY DEFAULT (lower(
        hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)
        || '-' || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))
    )),
    clerk_user_id TEXT    NOT NULL UNIQUE,
    email         TEXT    NOT NULL UNIQUE,
    first_name    TEXT    NOT NULL,
    last_name     TEXT    NOT NULL,
    created_at    INTEGER DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    updated_at    INTEGER DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)
) STRICT;

CREATE TABLE IF NOT EXISTS organizations (
    id                 TEXT    NOT NULL PRIMARY KEY DEFAULT (lower(
        hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)
        || '-' || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))
    ))
        CHECK (id GLOB '????????-????-????-????-????????????' AND id NOT GLOB '*[^0-9a-f-]*'
            AND length(replace(id, '-', '')) = 32 AND length(CAST(id AS BLOB)) = 36),
    clerk_org_id       TEXT    NOT NULL UNIQUE,
    name               TEXT    NOT NULL,
    slug               TEXT    NOT NULL,
    created_by_user_id TEXT    REFERENCES users (id),
    created_at         INTEGER DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    updated_at         INTEGER DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)
) STRICT;

-- What an organization answered when it signed up.
CREATE TABLE IF NOT EXISTS organization_metadata (
    organization_id     TEXT    NOT NULL PRIMARY KEY REFERENCES organizations (id),
    company_size        TEXT    NOT NULL,
    team_size           TEXT    NOT NULL,
    use_cases           TEXT    NOT NULL CHECK (json_valid(use_cases)),
    observability_stack TEXT    NOT NULL CHECK (json_valid(observability_stack)),
    completed_at        INTEGER DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    updated_at          INTEGER DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000)
) STRICT;

CREATE TABLE IF NOT EXISTS organization_members (
    user_id         TEXT    NOT NULL REFERENCES users (id),
    organization_id TEXT    NOT NULL REFERENCES organizations (id),
    clerk_user_id   TEXT    NOT NULL,
    clerk_org_id    TEXT    NOT NULL,
    role            TEXT    NOT NULL,
    joined_at       INTEGER DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER) * 1000),
    PRIMARY KEY (user_id, organization_id)
) STRICT;

CREATE INDEX IF NOT EXISTS idx_users_clerk_user_id ON users (clerk_user_id);
CREATE INDEX IF NOT EXISTS idx_organizations_clerk_org_id ON organizations (clerk_org_id);
CREATE INDEX IF NOT EXISTS idx_organization_members_clerk_user_id ON organization_members (clerk_user_id);
CREATE INDEX IF NOT EXISTS idx_organization_members_clerk_org_id ON organization_members (clerk_org_id);
