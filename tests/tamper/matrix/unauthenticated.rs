//! The columns that nothing authenticates, in one list.

/// A column that a writer may change unnoticed.
pub(super) struct Unauthenticated {
    pub(super) column: &'static str,
    /// What hangs on it.
    pub(super) reason: &'static str,
    /// The words of the threat model that name it.
    pub(super) named: &'static str,
}

pub(super) const fn free(column: &'static str, named: &'static str, reason: &'static str) -> Unauthenticated {
    Unauthenticated { column, reason, named }
}

const TIMES: &str = "**Times**";
const STATES: &str = "**Key states.**";
const ROW_IDS: &str = "**Row ids";
const QUARANTINE: &str = "the list of quarantined rows";
const RUNS: &str = "the runs with their lease";
const PHASE: &str = "**The phase of adoption**";

pub(super) const UNAUTHENTICATED: [Unauthenticated; 30] = [
    free("integration_credentials.id", ROW_IDS, "names the row; the vault finds rows by their integration"),
    free("integration_credentials.created_at", TIMES, "is shown"),
    free("integration_credentials.updated_at", TIMES, "is shown"),
    free("vault_data_keys.state", STATES, "which of the genuine keys seals is the database's word"),
    free("vault_data_keys.created_at", TIMES, "orders keys in lists"),
    free("vault_data_keys.activated_at", TIMES, "feeds the schedule of rotation"),
    free("vault_data_keys.deactivated_at", TIMES, "is shown"),
    free("vault_data_keys.compromised_at", TIMES, "is shown; a replaced key stays replaced without it"),
    free("vault_data_keys.unused_since", TIMES, "begins the grace; destroying counts the rows all the same"),
    free(
        "vault_data_keys.drain_run_id",
        RUNS,
        "names the run that waited; the foreign key holds used keys all the same",
    ),
    free("vault_identity.singleton", ROW_IDS, "keeps a second row out"),
    free("vault_identity.phase", PHASE, "opens nothing without the legacy key's material"),
    free("vault_identity.created_at", TIMES, "is never read"),
    free(
        "vault_master_keys.provider_record",
        STATES,
        "is read of a passphrase alone, whose key check holds it",
    ),
    free("vault_master_keys.created_at", TIMES, "orders keys in lists"),
    free("vault_master_keys.activated_at", TIMES, "is shown"),
    free("vault_quarantine.integration_id", QUARANTINE, "the credential opens or not, listed or not"),
    free("vault_quarantine.reason", QUARANTINE, "is shown"),
    free("vault_quarantine.since", QUARANTINE, "is shown"),
    free(
        "vault_quarantine.stored_sha256",
        QUARANTINE,
        "tells whether to try the row again; the row itself is opened",
    ),
    free("vault_rotation_runs.id", RUNS, "is the fencing number: a writer can stop a run"),
    free("vault_rotation_runs.kind", RUNS, "is shown"),
    free("vault_rotation_runs.owner", RUNS, "is shown"),
    free("vault_rotation_runs.lease_expires_at", RUNS, "is the lease: a writer can take it, or keep it"),
    free("vault_rotation_runs.started_at", RUNS, "is shown"),
    free("vault_rotation_runs.finished_at", RUNS, "ends a run: a writer can stop one"),
    free("vault_rotation_runs.outcome", RUNS, "is shown"),
    free("vault_rotation_runs.counts", RUNS, "is shown"),
    free(
        "vault_rotation_runs.captured",
        RUNS,
        "whom a switch waits for: the guarded write holds what is committed",
    ),
    free(
        "vault_rotation_runs.drained_at",
        RUNS,
        "says that the wait is over: the guarded write holds what is committed",
    ),
];
