//! Re-encryption: sweeps over the stale rows, page by page, until one finds nothing to do.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::lease::Lease;
use super::report::Progress;
use crate::crypto::key::SealingKey;
use crate::envelope::{Nonce, RowContext, key_of, reencrypt};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntegrationId, OrganizationId};
use crate::keyring::Keyring;
use crate::store::{KeyState, Phase, QuarantinedRow, Rows, ScannedRow, Store, Swap};

/// How long sweeps go on that find only rows which other transactions hold.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The pause before the next sweep after one that wrote nothing.
const PAUSE: Duration = Duration::from_millis(200);

/// One rotation's sweeps.
pub(super) struct Sweeper<'r> {
    store: &'r dyn Store,
    keyring: &'r Keyring,
    lease: &'r Lease,
    batch_size: u32,
    on_progress: &'r (dyn Fn(Progress) + Send + Sync),
    progress: Progress,
    lost: u64,
    already_current: u64,
    /// The rows that this run put in quarantine, by the hash of the text that didn't open.
    quarantined: HashMap<IntegrationId, [u8; 32]>,
    /// The rows that are listed in quarantine, by this run or an earlier one. Each run tries them anew: what was wrong
    /// may have been another column, or a key.
    listed: HashSet<IntegrationId>,
    /// The organizations that have an active key of their own.
    own_keys: HashSet<OrganizationId>,
}

/// What a sweep, or a page of it, did.
#[derive(Default)]
struct Sweep {
    written: u64,
    /// Rows that changed, or were locked, between reading and writing them.
    lost: u64,
}

/// Whether a row is as it was read.
#[derive(PartialEq, Eq)]
enum Row {
    Stands,
    Changed,
}

impl<'r> Sweeper<'r> {
    pub(super) async fn new(
        store: &'r dyn Store,
        keyring: &'r Keyring,
        lease: &'r Lease,
        batch_size: u32,
        on_progress: &'r (dyn Fn(Progress) + Send + Sync),
    ) -> Result<Self> {
        let listed: HashSet<_> = store.quarantined().await?.iter().map(|row| row.integration).collect();
        // Legacy rows are never current: stale in the phases that re-encrypt them, else counted by themselves.
        let counts = store.count_by_key().await?;
        let legacy: u64 =
            counts.iter().filter(|count| count.key_column == "v1").map(|count| count.rows).sum();
        let rows: u64 = counts.iter().map(|count| count.rows).sum();
        let phase = store.identity().await?.map_or(Phase::None, |identity| identity.phase);
        let left_alone = if matches!(phase, Phase::None | Phase::Observe) { legacy } else { 0 };
        let stale = store.count_stale().await?;
        Ok(Self {
            store,
            keyring,
            lease,
            batch_size,
            on_progress,
            progress: Progress { re_encrypted: 0, stale },
            lost: 0,
            already_current: rows.saturating_sub(stale + left_alone + quarantined_rows(store).await?),
            quarantined: HashMap::new(),
            listed,
            own_keys: HashSet::new(),
        })
    }

    pub(super) fn re_encrypted(&self) -> u64 {
        self.progress.re_encrypted
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) fn already_current(&self) -> u64 {
        self.already_current
    }

    /// Sweeps until one finds nothing but rows in quarantine; gives the number of rows that were left because others
    /// held them to the end.
    pub(super) async fn sweep_until_nothing_is_left(&mut self) -> Result<u64> {
        let left = self.sweep_while_others_give_way().await?;
        for integration in self.listed.iter().filter(|listed| !self.quarantined.contains_key(listed)) {
            self.store.release(*integration).await?;
        }
        Ok(left)
    }

    async fn sweep_while_others_give_way(&mut self) -> Result<u64> {
        let mut last_progress = Instant::now();
        loop {
            let sweep = self.sweep().await?;
            if sweep.written > 0 {
                last_progress = Instant::now();
                continue;
            }
            // By query, not by what this process has seen: rows may have become stale behind the sweep.
            let left = self.store.count_stale().await?;
            if left == 0 && sweep.lost == 0 {
                return Ok(0);
            }
            if last_progress.elapsed() >= MAX_WAIT {
                // Those that are still listed from an earlier run are not among the rows counted.
                return Ok(left.max(sweep.lost));
            }
            sleep(PAUSE).await;
        }
    }

    /// One pass over the stale rows.
    async fn sweep(&mut self) -> Result<Sweep> {
        // Another process may have given an organization a key since: under the one before it nothing is written.
        self.keyring.forget_sealing_keys();
        self.own_keys = self
            .store
            .data_keys()
            .await?
            .into_iter()
            .flatten()
            .filter(|key| key.state == KeyState::Active)
            .filter_map(|key| key.organization)
            .collect();
        let mut sweep = Sweep::default();
        let mut after = None;
        loop {
            self.lease.renew().await?;
            let page = self.store.scan(Rows::Stale, after, self.batch_size).await?;
            let Some(last) = page.last() else { return Ok(sweep) };
            after = Some(last.cursor);
            let done = self.reencrypt_page(&page).await?;
            sweep.written += done.written;
            sweep.lost += done.lost;
            self.lost += done.lost;
            self.progress.re_encrypted += done.written;
            (self.on_progress)(self.progress);
        }
    }

    /// Seals each row of a page under the active key of its scope, and writes those that didn't change meanwhile; what
    /// doesn't open goes into quarantine.
    async fn reencrypt_page(&mut self, page: &[ScannedRow]) -> Result<Sweep> {
        let mut done = Sweep::default();
        let mut swaps = Vec::with_capacity(page.len());
        for (row, nonce) in page.iter().zip(Nonce::draw_many(page.len())?) {
            if self.quarantined.get(&row.integration) == Some(&sha256(&row.row.stored)) {
                continue;
            }
            // A process that lacks the key to seal under is at fault, not the row.
            let scope = self.own_keys.contains(&row.organization).then_some(row.organization);
            let to = self.keyring.scope_key(scope).await?;
            match self.reencrypt(row, &to, nonce).await {
                Ok(swap) => swaps.push(swap),
                Err(error) if matches!(error.kind(), ErrorKind::Store | ErrorKind::Provider) => {
                    return Err(error);
                }
                Err(error) => {
                    if self.quarantine(row, &error).await? == Row::Changed {
                        done.lost += 1;
                    }
                }
            }
        }
        if swaps.is_empty() {
            return Ok(done);
        }
        done.lost += swaps.len() as u64;
        for integration in self.store.swap(self.lease.run(), swaps).await? {
            done.lost -= 1;
            done.written += 1;
            self.quarantined.remove(&integration);
        }
        Ok(done)
    }

    async fn reencrypt(&self, scanned: &ScannedRow, to: &SealingKey, nonce: Nonce) -> Result<Swap> {
        let row = &scanned.row;
        let from = self.keyring.opening_key(key_of(&row.stored, &row.key_column)?).await?;
        let context = RowContext {
            organization: scanned.organization,
            integration: scanned.integration,
            credential_type: &row.credential_type,
        };
        let new = reencrypt(&from, to, nonce, &context, &row.stored, row.expires_at)?;
        Ok(Swap {
            integration: scanned.integration,
            old: row.stored.clone(),
            old_expires_at: row.expires_at,
            new,
            key: to.id(),
        })
    }

    /// Lists a row that didn't open, unless it was changed meanwhile.
    async fn quarantine(&mut self, scanned: &ScannedRow, error: &Error) -> Result<Row> {
        let now = self.store.get(scanned.integration).await?;
        let holder = self.store.organization_of(scanned.integration).await?;
        let stands =
            now.is_some_and(|row| row.stored == scanned.row.stored) && holder == Some(scanned.organization);
        if !stands {
            return Ok(Row::Changed);
        }
        tracing::warn!(integration = %scanned.integration, reason = %error.kind(), "row put in quarantine");
        let row = QuarantinedRow {
            integration: scanned.integration,
            reason: error.kind().to_string(),
            stored_sha256: sha256(&scanned.row.stored),
        };
        self.store.quarantine(&row).await?;
        self.quarantined.insert(row.integration, row.stored_sha256);
        self.listed.insert(row.integration);
        Ok(Row::Stands)
    }
}

/// How many rows in quarantine are as they were put there: one that was written anew since, or is gone, is none.
///
/// # Errors
///
/// `Store` if the database fails.
pub(crate) async fn quarantined_rows(store: &dyn Store) -> Result<u64> {
    let mut rows = 0;
    for row in store.quarantined().await? {
        let now = store.get(row.integration).await?;
        rows += u64::from(now.is_some_and(|now| sha256(&now.stored) == row.stored_sha256));
    }
    Ok(rows)
}

fn sha256(stored: &str) -> [u8; 32] {
    Sha256::digest(stored.as_bytes()).into()
}
