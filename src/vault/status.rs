//! What an operator asks of a vault.

use time::{Duration, OffsetDateTime};

use super::Vault;
use crate::error::Result;
use crate::id::{MasterKeyId, OrganizationId, VaultId};
use crate::keyring::Outlook;
use crate::rotation::{
    DataKeySummary, RunSummary, Usage, data_key_summaries, quarantined_rows, run_summaries,
};
use crate::store::{KeyState, MasterKeyRow, On, Phase};

/// The state of a vault: from [`Vault::status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The vault.
    pub vault_id: VaultId,
    /// How far the adoption of legacy rows has come.
    pub phase: Phase,
    /// The master keys, oldest first.
    pub master_keys: Vec<MasterKeySummary>,
    /// The data keys, oldest first.
    pub data_keys: Vec<DataKeySummary>,
    /// Rows that rotation has to re-encrypt: those not under the active key of their scope, legacy rows only in the
    /// phases that re-encrypt them, and those in quarantine aside.
    pub stale_rows: u64,
    /// Rows in quarantine: they couldn't be opened, and were not written anew since.
    pub quarantined_rows: u64,
    /// The rotation or rewrap that runs, or was killed and has not been taken over.
    pub running: Option<RunSummary>,
    /// The rotation or rewrap that ended last; `None` if there was none.
    pub last_run: Option<RunSummary>,
    /// When this was, by the database's clock.
    pub at: OffsetDateTime,
}

/// How exactly rows are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counting {
    /// By the column that names the key.
    Fast,
    /// With each row's scope, and the key that its text names.
    Exact,
}

impl Status {
    /// When the first active data key becomes older than `max_age`; `None` without one. A compromised one is due at once.
    #[must_use]
    pub fn next_due(&self, max_age: Duration) -> Option<OffsetDateTime> {
        let due = |key: &DataKeySummary| match key.compromised_at {
            Some(compromised_at) => compromised_at,
            None => key.activated_at.unwrap_or(key.created_at).saturating_add(max_age),
        };
        self.data_keys.iter().filter(|key| key.state == KeyState::Active).map(due).min()
    }
}

/// What the database says of a master key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MasterKeySummary {
    /// The key.
    pub id: MasterKeyId,
    /// The only organization whose data keys it wraps; `None` for the key of all others.
    pub organization_id: Option<OrganizationId>,
    /// The kind of provider that holds it.
    pub provider: String,
    /// Its state.
    pub state: KeyState,
    /// How many data keys it wraps.
    pub wraps: u64,
    /// How long this process still uses it, should its key service not answer; `None` for a key that it doesn't hold, or
    /// that no service has to give.
    pub usable_for: Option<std::time::Duration>,
    /// Why its key service didn't give it again when it was last asked; `None` if it did.
    pub renewal_error: Option<String>,
}

impl MasterKeySummary {
    pub(super) fn new(row: MasterKeyRow, outlook: Option<Outlook>) -> Self {
        Self {
            id: row.id,
            organization_id: row.organization,
            provider: row.provider,
            state: row.state,
            wraps: row.wraps,
            usable_for: outlook.as_ref().map(|outlook| outlook.usable_for),
            renewal_error: outlook.and_then(|outlook| outlook.failure),
        }
    }
}

pub(super) async fn status(vault: &Vault, counting: Counting) -> Result<Status> {
    /// The run under way, and the last that ended.
    const RUNS: u32 = 2;
    let (store, offset) = (vault.0.store.as_ref(), vault.0.clock.offset());
    let identity = store.identity().await?;
    let master_keys = store.master_keys(On::Pool).await?;
    let quarantined_rows = quarantined_rows(store).await?;
    let usage = match counting {
        Counting::Exact => Usage::count(store).await?,
        Counting::Fast => {
            let mut usage = Usage::estimate(store).await?;
            usage.stale = usage.stale.saturating_sub(quarantined_rows);
            usage
        }
    };
    let runs = run_summaries(store, RUNS).await?;
    let (running, ended): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| run.finished_at.is_none());
    let summary = |row: MasterKeyRow| {
        let outlook = vault.0.keyring.master_keys().outlook(row.id);
        MasterKeySummary::new(row, outlook)
    };
    Ok(Status {
        vault_id: vault.0.id,
        phase: identity.map_or(Phase::None, |identity| identity.phase),
        master_keys: master_keys.into_iter().map(summary).collect(),
        data_keys: data_key_summaries(store, &usage, offset).await?,
        stale_rows: usage.stale,
        quarantined_rows,
        running: running.into_iter().next(),
        last_run: ended.into_iter().next(),
        at: store.now(offset).await?.to_offset_date_time(),
    })
}
