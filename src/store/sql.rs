//! The statements that both dialects share, each with its one definition of "now", and the one definition of the
//! active key of a row's scope. `$n` is a parameter on both.

/// The active key of an organization's own, or NULL.
macro_rules! own_key {
    ($organization:literal) => {
        concat!(
            "(SELECT own.id FROM vault_data_keys AS own
              WHERE own.organization_id = ",
            $organization,
            " AND own.state = 'active')"
        )
    };
}
pub(super) use own_key;

/// The active key that organizations share, or NULL.
macro_rules! shared_key {
    () => {
        "(SELECT shared.id FROM vault_data_keys AS shared
              WHERE shared.organization_id IS NULL AND shared.state = 'active')"
    };
}
pub(super) use shared_key;

/// The active key of the scope of an organization, which is that of the integration `i` unless said otherwise: its own
/// where it has one, else the shared.
macro_rules! active_key_of_scope {
    () => {
        concat!(
            "COALESCE(",
            $crate::store::sql::own_key!("i.organization_id"),
            ", ",
            $crate::store::sql::shared_key!(),
            ")"
        )
    };
    // For many rows: own keys are looked up only where an organization has one at all.
    (of each $organization:literal) => {
        concat!(
            "COALESCE(
            CASE WHEN EXISTS (SELECT 1 FROM vault_data_keys AS any_own
                               WHERE any_own.organization_id IS NOT NULL AND any_own.state = 'active')
                 THEN ",
            $crate::store::sql::own_key!($organization),
            " END,
            ",
            $crate::store::sql::shared_key!(),
            ")"
        )
    };
}
pub(super) use active_key_of_scope;

/// A column of a name or an id of 50 characters. One that is longer, as it can be in a table without its constraints, is
/// not fetched: no name and no id is empty.
macro_rules! short {
    ($column:literal) => {
        concat!("CASE WHEN octet_length(", $column, ") > 200 THEN '' ELSE ", $column, " END")
    };
}
pub(super) use short;

/// The columns of a credential's row `c` that opening it takes. A text longer than any that the vault writes is
/// not fetched (1 MiB, the stored format's limit).
macro_rules! credential_columns {
    () => {
        concat!(
            $crate::store::sql::short!("c.credential_type"),
            " AS credential_type,
         CASE WHEN octet_length(c.credential_data_encrypted) <= 1048576
              THEN c.credential_data_encrypted ELSE '' END AS stored,
         ",
            $crate::store::sql::short!("c.encryption_key_id"),
            " AS encryption_key_id,
         c.expires_at"
        )
    };
}
pub(super) use credential_columns;

/// Joins `own` to rows `c` with their integrations `i`, for `is_stale`.
macro_rules! with_own_key {
    () => {
        " LEFT JOIN vault_data_keys AS own ON own.organization_id = i.organization_id AND own.state = 'active'"
    };
}
pub(super) use with_own_key;

/// Whether a row `c` is stale: not under the active key of its scope, `own` being the active key of its organization where
/// that has one of its own. Legacy rows are only in the phases that re-encrypt them, and from then on so is every value
/// without the prefix of the format. Where a scope has no active key, each of its rows is stale: no key has the empty id.
macro_rules! is_stale {
    () => {
        concat!(
            "(c.encryption_key_id <> 'v1' OR (SELECT phase FROM vault_identity) IN ('re-encrypt', 'cut-over'))
                AND (c.encryption_key_id <> COALESCE(own.id, ",
            $crate::store::sql::shared_key!(),
            ", '')
                     OR (SELECT phase FROM vault_identity) IN ('re-encrypt', 'cut-over')
                         AND substr(c.credential_data_encrypted, 1, 4) <> 'cv1.')"
        )
    };
}
pub(super) use is_stale;

/// The first rows of some integrations, `$among` being a dialect's condition that `c.integration_id` is one of a JSON array,
/// in the order of their ids, up to where their texts have $2 bytes. As a page of a scan: the texts of those that follow are
/// not read, and those that a window function goes over are not held.
macro_rules! rows_of {
    ($among:literal) => {
        concat!(
            "SELECT page.integration_id, page.organization_id, ",
            $crate::store::sql::credential_columns!(),
            "
               FROM (SELECT given.*, sum(given.bytes) OVER (ORDER BY given.integration_id ROWS UNBOUNDED PRECEDING)
                                         - given.bytes AS bytes_before
                       FROM (SELECT c.integration_id, i.organization_id,
                                    COALESCE(octet_length(c.credential_data_encrypted), 0) AS bytes
                               FROM integration_credentials AS c
                               JOIN integrations AS i ON i.id = c.integration_id
                              WHERE c.integration_id ",
            $among,
            "
                              ORDER BY c.integration_id LIMIT $3) AS given) AS page
              CROSS JOIN integration_credentials AS c
              WHERE c.integration_id = page.integration_id AND page.bytes_before < $2
              ORDER BY page.integration_id"
        )
    };
}
pub(super) use rows_of;

macro_rules! summaries {
    ($where:literal) => {
        concat!(
            "SELECT i.id, i.organization_id, ",
            $crate::store::sql::short!("i.connector_type"),
            " AS connector_type, ",
            $crate::store::sql::short!("c.credential_type"),
            " AS credential_type, ",
            $crate::store::sql::short!("c.encryption_key_id"),
            " AS encryption_key_id,
                    c.expires_at, c.created_at, c.updated_at
               FROM integration_credentials AS c
               JOIN integrations AS i ON i.id = c.integration_id
              WHERE ",
            $where
        )
    };
}
pub(super) use summaries;

/// Defines the shared statements with a dialect's `now`, its unit for an integer of microseconds, and how a `SELECT`
/// keeps the key columns of `i`, or the row `m`, from changing until the transaction ends; and what ends a sub-select whose
/// columns alone are to reach what groups them.
macro_rules! statements {
    (
        now: $now:literal,
        microsecond: $microsecond:literal,
        keep_key_of_i: $keep_key_of_i:literal,
        keep_m: $keep_m:literal,
        alone: $alone:literal
    ) => {
        use $crate::store::sql::{
            active_key_of_scope, credential_columns, is_stale, rows_of, short, summaries,
        };

        /// The key must be the active one of the scope in this statement's snapshot. The integration stays the
        /// organization's until this is committed: a write that waited for a transfer to end would else replace what
        /// was sealed for the new organization. No other change of the integration's row waits for it.
        pub(in $crate::store) const PUT: &str = concat!(
            "INSERT INTO integration_credentials
                    (id, integration_id, credential_type, credential_data_encrypted, expires_at,
                     encryption_key_id, created_at, updated_at)
             SELECT $1, i.id, $3, $4, $5, $6, ", $now, ", ", $now, "
               FROM integrations AS i
              WHERE i.id = $2 AND i.organization_id = $7 AND $6 = ", active_key_of_scope!(), $keep_key_of_i, "
                 ON CONFLICT (integration_id) DO UPDATE
                SET credential_type = excluded.credential_type,
                    credential_data_encrypted = excluded.credential_data_encrypted,
                    expires_at = excluded.expires_at,
                    encryption_key_id = excluded.encryption_key_id,
                    updated_at = excluded.updated_at"
        );
        /// As `PUT`, and the stored text must begin with the revision.
        pub(in $crate::store) const UPDATE: &str = concat!(
            "UPDATE integration_credentials AS c
                SET credential_type = $2,
                    credential_data_encrypted = $3,
                    expires_at = $4,
                    encryption_key_id = $5,
                    updated_at = ", $now, "
               FROM integrations AS i
              WHERE c.integration_id = $1 AND i.id = c.integration_id AND i.organization_id = $6
                AND substr(c.credential_data_encrypted, 1, length($7)) = $7
                AND $5 = ", active_key_of_scope!()
        );
        pub(in $crate::store) const GUARD: &str = concat!(
            "SELECT ", active_key_of_scope!(), " AS active_key,
                    substr(c.credential_data_encrypted, 1, 63) AS revision
               FROM integrations AS i
               LEFT JOIN integration_credentials AS c ON c.integration_id = i.id
              WHERE i.id = $1 AND i.organization_id = $2"
        );
        pub(in $crate::store) const GET: &str = concat!(
            "SELECT ", credential_columns!(), "
               FROM integration_credentials AS c
              WHERE c.integration_id = $1"
        );
        pub(in $crate::store) const ORGANIZATION_OF: &str =
            "SELECT organization_id FROM integrations WHERE id = $1";
        /// The integration stays the organization's until this is committed, as for `PUT`.
        pub(in $crate::store) const DELETE: &str = concat!(
            "DELETE FROM integration_credentials
              WHERE integration_id = $1
                AND EXISTS (SELECT 1 FROM integrations AS i
                             WHERE i.id = $1 AND i.organization_id = $2", $keep_key_of_i, ")"
        );
        pub(in $crate::store) const DESCRIBE: &str =
            summaries!("c.integration_id = $1 AND i.organization_id = $2");
        pub(in $crate::store) const LIST: &str =
            summaries!("i.organization_id = $1 ORDER BY i.connector_type, i.id");
        pub(in $crate::store) const EXPIRING: &str =
            summaries!("c.expires_at < $1 ORDER BY c.expires_at, c.id LIMIT $2");
        pub(in $crate::store) const UNDER: &str = summaries!(
            "c.encryption_key_id = $1 AND (i.organization_id, i.id) >= ($2, $3)
              ORDER BY i.organization_id, i.id LIMIT $4"
        );
        pub(in $crate::store) const INTEGRATION_OF: &str =
            "SELECT id FROM integrations WHERE organization_id = $1 AND connector_type = $2";
        pub(in $crate::store) const CREATE_INTEGRATION: &str = concat!(
            "INSERT INTO integrations (id, organization_id, user_id, connector_type, status, created_at, updated_at)
             VALUES ($1, $2, $3, $4, 'active', ", $now, ", ", $now, ")
                 ON CONFLICT (organization_id, connector_type) DO NOTHING"
        );
        pub(in $crate::store) const MOVE_INTEGRATION: &str = concat!(
            "UPDATE integrations
                SET organization_id = $2, updated_at = ", $now, "
              WHERE id = $1 AND organization_id IN ($2, $3)"
        );
        /// Runs after `MOVE_INTEGRATION` in its transaction: the scope is the new organization's.
        pub(in $crate::store) const RESEAL: &str = concat!(
            "UPDATE integration_credentials AS c
                SET credential_data_encrypted = $2, encryption_key_id = $3
               FROM integrations AS i
              WHERE c.integration_id = $1 AND i.id = c.integration_id
                AND c.credential_data_encrypted = $4
                AND $3 = ", active_key_of_scope!()
        );
        pub(in $crate::store) const COUNT_BY_KEY: &str = concat!(
            "SELECT of_row.key_column, count(*) AS count
               FROM (SELECT ", short!("c.encryption_key_id"), " AS key_column
                       FROM integration_credentials AS c", $alone, ") AS of_row
              GROUP BY 1 ORDER BY 1"
        );
        /// One scan: the rows by the key that their column names, the beginning of the header that names it again, and
        /// whether they are stale, those in quarantine and those without an integration aside. Integrations are looked up
        /// only where an organization has a key of its own, and for rows that are stale. The id of a header's key ends
        /// within its 31st character, so that a key has four beginnings at most; $1 bounds what a table of garbage could
        /// give.
        pub(in $crate::store) const USAGE: &str = concat!(
            "WITH own AS MATERIALIZED (
                 SELECT i.id AS integration_id, k.id
                   FROM vault_data_keys AS k
                   JOIN integrations AS i ON i.organization_id = k.organization_id
                  WHERE k.state = 'active')
             SELECT of_row.key_column, of_row.header, of_row.stale, count(*) AS count
               FROM (SELECT ", short!("c.encryption_key_id"), " AS key_column,
                            CASE WHEN substr(c.credential_data_encrypted, 1, 4) = 'cv1.'
                                 THEN substr(c.credential_data_encrypted, 1, 31) ELSE '' END AS header,
                            CASE WHEN ", is_stale!(), "
                                 THEN c.integration_id NOT IN (SELECT q.integration_id FROM vault_quarantine AS q)
                                      AND EXISTS (SELECT 1 FROM integrations AS i WHERE i.id = c.integration_id)
                                 ELSE false END AS stale
                       FROM integration_credentials AS c
                       LEFT JOIN own ON own.integration_id = c.integration_id", $alone, ") AS of_row
              GROUP BY 1, 2, 3 LIMIT $1"
        );
        /// The time at which a row was put there is that of its text.
        pub(in $crate::store) const QUARANTINE: &str = concat!(
            "INSERT INTO vault_quarantine (integration_id, reason, since, stored_sha256)
             SELECT $1, $2, ", $now, ", $3
              WHERE EXISTS (SELECT 1 FROM integrations AS i WHERE i.id = $1)
                 ON CONFLICT (integration_id) DO UPDATE
                SET reason = excluded.reason, stored_sha256 = excluded.stored_sha256,
                    since = CASE WHEN vault_quarantine.stored_sha256 = excluded.stored_sha256
                                 THEN vault_quarantine.since ELSE excluded.since END"
        );
        pub(in $crate::store) const QUARANTINED: &str =
            "SELECT integration_id, reason, stored_sha256 FROM vault_quarantine ORDER BY integration_id";
        pub(in $crate::store) const RELEASE: &str = "DELETE FROM vault_quarantine WHERE integration_id = $1";
        pub(in $crate::store) const QUARANTINE_LIST: &str = concat!(
            "SELECT q.integration_id, q.reason, q.stored_sha256, q.since, i.organization_id,
                    ", short!("i.connector_type"), " AS connector_type
               FROM vault_quarantine AS q
               LEFT JOIN integrations AS i ON i.id = q.integration_id
              ORDER BY q.since, q.integration_id"
        );
        /// Unless another text was put there since.
        pub(in $crate::store) const RELEASE_LISTED: &str =
            "DELETE FROM vault_quarantine WHERE integration_id = $1 AND stored_sha256 = $2";

        /// Each row as likely as any other, at the cost of a pass over all of them.
        pub(in $crate::store) const SAMPLE_OF_ALL: &str =
            "SELECT c.integration_id FROM integration_credentials AS c ORDER BY random() LIMIT $1";
        pub(in $crate::store) const WITHOUT_INTEGRATION: &str =
            "SELECT c.integration_id, count(*) OVER () AS count
               FROM integration_credentials AS c
              WHERE NOT EXISTS (SELECT 1 FROM integrations AS i WHERE i.id = c.integration_id)
              LIMIT $1";
        pub(in $crate::store) const QUARANTINED_WITHOUT_ROW: &str =
            "SELECT q.integration_id FROM vault_quarantine AS q
              WHERE NOT EXISTS (SELECT 1 FROM integration_credentials AS c
                                 WHERE c.integration_id = q.integration_id)
              ORDER BY q.integration_id";
        pub(in $crate::store) const MATERIAL_WITHOUT_KEY: &str =
            "SELECT m.data_key_id FROM vault_key_material AS m
              WHERE NOT EXISTS (SELECT 1 FROM vault_data_keys AS k WHERE k.id = m.data_key_id)
              ORDER BY m.data_key_id";
        pub(in $crate::store) const HAS_MATERIAL: &str =
            "SELECT count(*) FROM vault_key_material WHERE data_key_id = $1";
        pub(in $crate::store) const DATA_KEY_LIVES: &str =
            "SELECT k.id, k.organization_id, k.state, k.created_at, k.activated_at, k.deactivated_at, k.destroyed_at,
                    k.unused_since, m.data_key_id IS NOT NULL AS has_material
               FROM vault_data_keys AS k
               LEFT JOIN vault_key_material AS m ON m.data_key_id = k.id
              ORDER BY k.created_at, k.id";
        pub(in $crate::store) const MASTER_KEY_LIVES: &str =
            "SELECT k.id, k.state, k.created_at, k.activated_at, k.deactivated_at, k.destroyed_at
               FROM vault_master_keys AS k
              ORDER BY k.created_at, k.id";

        $crate::store::key_sql::key_statements!($now, $microsecond, $keep_m);

        pub(in $crate::store) const END_EXPIRED_RUNS: &str = concat!(
            "UPDATE vault_rotation_runs SET finished_at = ", $now, ", outcome = 'lease-lost'
              WHERE finished_at IS NULL AND lease_expires_at < ", $now, " + $1", $microsecond
        );
        pub(in $crate::store) const START_RUN: &str = concat!(
            "INSERT INTO vault_rotation_runs (kind, owner, lease_expires_at, started_at, counts)
             SELECT $1, $2, ", $now, " + $3", $microsecond, ", ", $now, " + $4", $microsecond, ", $5
              WHERE NOT EXISTS (SELECT 1 FROM vault_rotation_runs WHERE finished_at IS NULL)
                 ON CONFLICT DO NOTHING
             RETURNING id"
        );
        pub(in $crate::store) const RUNNING: &str =
            "SELECT owner, started_at FROM vault_rotation_runs WHERE finished_at IS NULL";
        pub(in $crate::store) const RENEW_RUN: &str = concat!(
            "UPDATE vault_rotation_runs SET lease_expires_at = ", $now, " + $2", $microsecond, ", counts = $3
              WHERE id = $1 AND finished_at IS NULL"
        );
        /// Locks the run's row: nobody ends the run before the transaction does.
        pub(in $crate::store) const HOLD_RUN: &str =
            "UPDATE vault_rotation_runs SET owner = owner WHERE id = $1 AND finished_at IS NULL";
        pub(in $crate::store) const FINISH_RUN: &str = concat!(
            "UPDATE vault_rotation_runs SET finished_at = ", $now, " + $4", $microsecond, ", outcome = $2, counts = $3
              WHERE id = $1 AND finished_at IS NULL"
        );
        pub(in $crate::store) const RUNS: &str =
            "SELECT id, kind, owner, started_at, finished_at, outcome, counts FROM vault_rotation_runs
              ORDER BY id DESC LIMIT $1";

        /// The keys whose state is from a switch after which nothing was captured yet: the legacy key only once nothing
        /// new may be written under it.
        pub(in $crate::store) const SWITCHED: &str =
            "SELECT id, state FROM vault_data_keys
              WHERE drain_run_id IS NULL AND state IN ('active', 'deactivated')
                AND (id <> 'v1' OR (SELECT phase FROM vault_identity) = 'cut-over')";
        /// A run that captures again has seen the end of what it captured before: its keys wait for the new set, too.
        pub(in $crate::store) const CAPTURE: &str =
            "UPDATE vault_rotation_runs SET captured = $2, drained_at = NULL WHERE id = $1 AND finished_at IS NULL";
        /// Unless it was switched again since the look at who was under way.
        pub(in $crate::store) const ASSIGN_DRAIN: &str =
            "UPDATE vault_data_keys SET drain_run_id = $2
              WHERE id = $1 AND state = $3 AND drain_run_id IS NULL";
        pub(in $crate::store) const DRAINS: &str =
            "SELECT r.id, r.captured FROM vault_rotation_runs AS r
              WHERE r.captured IS NOT NULL AND r.drained_at IS NULL
                AND EXISTS (SELECT 1 FROM vault_data_keys AS k WHERE k.drain_run_id = r.id)
              ORDER BY r.id";
        /// By compare-and-swap: another process may have found more of it ended.
        pub(in $crate::store) const NARROW_DRAIN: &str =
            "UPDATE vault_rotation_runs SET captured = $3 WHERE id = $1 AND captured = $2";
        pub(in $crate::store) const END_DRAIN: &str = concat!(
            "UPDATE vault_rotation_runs SET captured = $3, drained_at = ", $now, "
              WHERE id = $1 AND captured = $2 AND drained_at IS NULL"
        );
        /// Each deactivated key after whose switch every captured transaction has ended.
        pub(in $crate::store) const DRAINED: &str =
            "SELECT k.id FROM vault_data_keys AS k
               JOIN vault_rotation_runs AS r ON r.id = k.drain_run_id AND r.drained_at IS NOT NULL
              WHERE k.state = 'deactivated'";
    };
}
pub(super) use statements;
