//! What an operator asks of a vault.

use time::OffsetDateTime;

use super::Vault;
use crate::error::Result;
use crate::id::{MasterKeyId, VaultId};
use crate::rotation::{DataKeySummary, quarantined_rows};
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
    /// When the last rotation or rewrap ended, and how; `None` if there was none.
    pub last_run: Option<(OffsetDateTime, String)>,
}

/// What the database says of a master key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MasterKeySummary {
    /// The key.
    pub id: MasterKeyId,
    /// The kind of provider that holds it.
    pub provider: String,
    /// Its state.
    pub state: KeyState,
    /// How many data keys it wraps.
    pub wraps: u64,
}

impl MasterKeySummary {
    pub(super) fn new(row: MasterKeyRow) -> Self {
        Self { id: row.id, provider: row.provider, state: row.state, wraps: row.wraps }
    }
}

pub(super) async fn status(vault: &Vault) -> Result<Status> {
    let store = &vault.0.store;
    let identity = store.identity().await?;
    let master_keys = store.master_keys(On::Pool).await?;
    Ok(Status {
        vault_id: vault.0.id,
        phase: identity.map_or(Phase::None, |identity| identity.phase),
        master_keys: master_keys.into_iter().map(MasterKeySummary::new).collect(),
        data_keys: vault.keys().list().await?,
        stale_rows: store.count_stale().await?,
        quarantined_rows: quarantined_rows(store.as_ref()).await?,
        last_run: store
            .last_run()
            .await?
            .map(|run| (run.finished_at.to_offset_date_time(), format!("{}: {}", run.kind, run.outcome))),
    })
}
