//! The statements about the vault's identity, its master keys and its data keys, in terms of each dialect's "now".

/// Data keys `k` with their material. A wrapped text longer than any that the vault writes is not fetched, as above.
macro_rules! data_keys {
    ($where:expr) => {
        concat!(
            "SELECT k.id, k.organization_id, k.state, k.key_check, k.created_at, k.activated_at, k.deactivated_at,
                    k.destroyed_at, k.compromised_at, k.unused_since,
                    m.master_key_id,
                    CASE WHEN octet_length(m.wrapped_key) > 1048576 THEN '' ELSE m.wrapped_key END AS wrapped_key
               FROM vault_data_keys AS k
               LEFT JOIN vault_key_material AS m ON m.data_key_id = k.id
              WHERE ",
            $where
        )
    };
}
pub(super) use data_keys;

macro_rules! key_statements {
    ($now:literal, $microsecond:literal, $keep_m:literal) => {
        pub(in $crate::store) const NOW: &str = concat!("SELECT ", $now, " + $1", $microsecond);
        pub(in $crate::store) const IDENTITY: &str = "SELECT vault_id, phase FROM vault_identity";
        pub(in $crate::store) const INSERT_IDENTITY: &str =
            "INSERT INTO vault_identity (vault_id) VALUES ($1) ON CONFLICT (singleton) DO NOTHING";
        pub(in $crate::store) const SET_PHASE: &str =
            "UPDATE vault_identity SET phase = $1 WHERE phase = $2";
        pub(in $crate::store) const MASTER_KEYS: &str =
            "SELECT k.id, k.organization_id, k.provider, k.provider_record, k.key_check, k.state,
                    (SELECT count(*) FROM vault_key_material AS m WHERE m.master_key_id = k.id) AS wraps
               FROM vault_master_keys AS k
              ORDER BY k.created_at, k.id";
        pub(in $crate::store) const INSERT_MASTER_KEY: &str =
            "INSERT INTO vault_master_keys (id, provider, provider_record, key_check, organization_id, state)
             VALUES ($1, $2, $3, $4, $5, 'pre-active')
                 ON CONFLICT (id) DO NOTHING";
        pub(in $crate::store) const REPLACE_PROVIDER_RECORD: &str =
            "UPDATE vault_master_keys SET provider_record = $3
              WHERE id = $1 AND provider_record = $2 AND state <> 'destroyed'";
        /// That of the same scope.
        pub(in $crate::store) const DEACTIVATE_MASTER_KEY: &str = concat!(
            "UPDATE vault_master_keys SET state = 'deactivated', deactivated_at = ", $now, "
              WHERE state = 'active' AND id <> $1
                AND organization_id IS NOT DISTINCT FROM
                    (SELECT organization_id FROM vault_master_keys WHERE id = $1)"
        );
        /// Waits for who is making a data key under the shared master key: an organization's own is about to take its place.
        pub(in $crate::store) const HOLD_SHARED_MASTER_KEY: &str =
            "UPDATE vault_master_keys SET created_at = created_at
              WHERE state = 'active' AND organization_id IS NULL
                AND EXISTS (SELECT 1 FROM vault_master_keys WHERE id = $1 AND organization_id IS NOT NULL)";
        /// A key that was deactivated may come back: data keys are wrapped by it again.
        pub(in $crate::store) const ACTIVATE_MASTER_KEY: &str = concat!(
            "UPDATE vault_master_keys SET state = 'active', activated_at = ", $now, ", deactivated_at = NULL
              WHERE id = $1 AND state IN ('pre-active', 'deactivated')"
        );
        pub(in $crate::store) const DATA_KEY: &str = $crate::store::key_sql::data_keys!("k.id = $1");
        pub(in $crate::store) const ACTIVE_DATA_KEY: &str = $crate::store::key_sql::data_keys!(
            "k.state = 'active' AND (k.organization_id = $1 OR k.organization_id IS NULL)
             ORDER BY k.organization_id IS NULL LIMIT 1"
        );
        pub(in $crate::store) const DATA_KEYS: &str = $crate::store::key_sql::data_keys!("1 = 1 ORDER BY k.created_at, k.id");
        pub(in $crate::store) const KEEP_MASTER_KEY: &str =
            concat!("SELECT 1 FROM vault_master_keys AS m WHERE m.id = $1", $keep_m);
        /// Refused, by no row, unless the master key that wrapped it is the active one of its scope, which it stays until the
        /// transaction ends: a rewrap waits for that, and finds the new key.
        pub(in $crate::store) const INSERT_DATA_KEY: &str = concat!(
            "INSERT INTO vault_data_keys (id, organization_id, state, key_check)
             SELECT $1, $2, 'pre-active', $3
               FROM vault_master_keys AS m
              WHERE m.id = $4 AND m.state = 'active' AND (
                        m.organization_id = $2
                        OR m.organization_id IS NULL AND NOT EXISTS (
                            SELECT 1 FROM vault_master_keys AS own
                             WHERE own.organization_id = $2 AND own.state = 'active'
                        )
                    )", $keep_m, "
                 ON CONFLICT DO NOTHING"
        );
        pub(in $crate::store) const INSERT_MATERIAL: &str =
            "INSERT INTO vault_key_material (data_key_id, master_key_id, wrapped_key) VALUES ($1, $2, $3)";
        pub(in $crate::store) const DEACTIVATE_SHARED_KEY: &str = concat!(
            "UPDATE vault_data_keys
                SET state = 'deactivated', deactivated_at = ", $now, " + $2", $microsecond, ", drain_run_id = NULL
              WHERE state = 'active' AND organization_id IS NULL AND id <> $1"
        );
        pub(in $crate::store) const DEACTIVATE_ORGANIZATION_KEY: &str = concat!(
            "UPDATE vault_data_keys
                SET state = 'deactivated', deactivated_at = ", $now, " + $2", $microsecond, ", drain_run_id = NULL
              WHERE state = 'active' AND organization_id = $3 AND id <> $1"
        );
        pub(in $crate::store) const ACTIVATE_DATA_KEY: &str = concat!(
            "UPDATE vault_data_keys
                SET state = 'active', activated_at = ", $now, " + $2", $microsecond, ", drain_run_id = NULL
              WHERE id = $1 AND state = 'pre-active'"
        );
        pub(in $crate::store) const MARK_COMPROMISED: &str = concat!(
            "UPDATE vault_data_keys SET compromised_at = ", $now, " + $2", $microsecond, "
              WHERE id = $1 AND state <> 'destroyed' AND compromised_at IS NULL"
        );
        pub(in $crate::store) const MARK_UNUSED: &str = concat!(
            "UPDATE vault_data_keys SET unused_since = ", $now, " + $2", $microsecond, "
              WHERE id = $1 AND state = 'deactivated' AND unused_since IS NULL"
        );
        pub(in $crate::store) const MARK_USED: &str =
            "UPDATE vault_data_keys SET unused_since = NULL WHERE id = $1 AND unused_since IS NOT NULL";
        /// Locks the key's record: nobody destroys it twice. $2 is the latest `unused_since` whose grace time is over.
        pub(in $crate::store) const HOLD_UNUSED_KEY: &str =
            "UPDATE vault_data_keys SET state = state
              WHERE id = $1 AND state = 'deactivated' AND unused_since <= $2";
        /// Refused by the database as long as a row names the key.
        pub(in $crate::store) const DELETE_MATERIAL: &str =
            "DELETE FROM vault_key_material WHERE data_key_id = $1";
        pub(in $crate::store) const MARK_DESTROYED: &str = concat!(
            "UPDATE vault_data_keys SET state = 'destroyed', destroyed_at = ", $now, " + $2", $microsecond, "
              WHERE id = $1 AND state = 'deactivated'"
        );
        pub(in $crate::store) const SET_LEGACY_KEY_CHECK: &str =
            "UPDATE vault_data_keys SET key_check = $1 WHERE id = 'v1' AND state <> 'destroyed'";
        /// As `INSERT_DATA_KEY`.
        pub(in $crate::store) const SET_LEGACY_MATERIAL: &str = concat!(
            "UPDATE vault_key_material SET master_key_id = $1, wrapped_key = $2
              WHERE data_key_id = 'v1' AND wrapped_key IS NULL
                AND EXISTS (SELECT 1 FROM vault_master_keys AS m
                             WHERE m.id = $1 AND m.state = 'active' AND m.organization_id IS NULL", $keep_m, ")"
        );
        pub(in $crate::store) const SWAP_MATERIAL: &str =
            "UPDATE vault_key_material SET master_key_id = $3, wrapped_key = $4
              WHERE data_key_id = $1 AND wrapped_key = $2";
        pub(in $crate::store) const MATERIAL: &str =
            "SELECT wrapped_key FROM vault_key_material WHERE data_key_id = $1";
    };
}
pub(super) use key_statements;
