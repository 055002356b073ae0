//! A page of stale rows: opened, sealed anew, written where nothing changed meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use sha2::{Digest, Sha256};

use super::events::{Listener, Progress, RotationEvent};
use crate::credential::Revision;
use crate::crypto::key::SealingKey;
use crate::envelope::{Nonce, RowContext, key_of, reencrypt};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, IntegrationId, OrganizationId};
use crate::keyring::Keyring;
use crate::store::{QuarantinedRow, RunId, ScannedRow, Store, Swap, Swapped};

/// Rows that are sealed before other tasks of the runtime get their turn, a fraction of a millisecond later: the write of the
/// page before is one of them.
const SEALED_AT_ONCE: usize = 100;

/// What all pages of a rotation share.
pub(super) struct Reencryption {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    run: RunId,
    listener: Listener,
    /// The organizations whose own master key can't be had: their rows are left as they are.
    withheld: HashSet<OrganizationId>,
    /// The organizations that have an active key of their own.
    own_keys: RwLock<HashSet<OrganizationId>>,
    counts: Mutex<Counts>,
    lost: AtomicU64,
    stale: u64,
}

/// What was done so far.
#[derive(Default)]
struct Counts {
    /// Rows re-encrypted, by the key that they were under; `None` where the text named none.
    re_encrypted: HashMap<DataKeyId, u64>,
    /// The rows that this run put in quarantine, by the hash of the text that didn't open.
    quarantined: HashMap<IntegrationId, [u8; 32]>,
}

/// A page whose rows are sealed anew, and not written yet.
pub(super) struct SealedPage {
    /// Rows that were read.
    pub(super) rows: u32,
    swaps: Arc<[Swap]>,
    /// The keys that they were under, one for each swap.
    from: Vec<DataKeyId>,
    /// What was done already.
    done: Done,
}

/// What a page, or a sweep of pages, did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) written: u64,
    /// Rows that changed, or were locked, between reading and writing them.
    pub(super) lost: u64,
    /// Rows that were left alone, since the master key of their organization can't be had.
    pub(super) withheld: u64,
    /// Whether the statement's time was over before the page was written.
    pub(super) took_too_long: bool,
}

impl Done {
    /// Counts what another page or worker did, too.
    pub(super) fn add(&mut self, other: Self) {
        self.written += other.written;
        self.lost += other.lost;
        self.withheld += other.withheld;
    }
}

/// Whether a row is as it was read.
#[derive(PartialEq, Eq)]
enum Row {
    Stands,
    Changed,
}

impl Reencryption {
    pub(super) fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        run: RunId,
        listener: Listener,
        withheld: HashSet<OrganizationId>,
        stale: u64,
    ) -> Self {
        Self {
            store,
            keyring,
            run,
            listener,
            withheld,
            own_keys: RwLock::default(),
            counts: Mutex::default(),
            lost: AtomicU64::new(0),
            stale,
        }
    }

    /// The organizations that have keys of their own from now on; what this process believes of active keys is forgotten.
    pub(super) fn begin_sweep(&self, own_keys: HashSet<OrganizationId>) {
        self.keyring.forget_sealing_keys();
        *self.own_keys.write().unwrap_or_else(PoisonError::into_inner) = own_keys;
    }

    /// Rows re-encrypted, by the key that they were under.
    pub(super) fn re_encrypted_by_key(&self) -> HashMap<DataKeyId, u64> {
        self.counts().re_encrypted.clone()
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { re_encrypted: self.counts().re_encrypted.values().sum(), stale: self.stale }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether this run has put the row in quarantine.
    pub(super) fn has_quarantined(&self, integration: IntegrationId) -> bool {
        self.counts().quarantined.contains_key(&integration)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seals each row of a page under the active key of its scope; what doesn't open goes into quarantine.
    ///
    /// # Errors
    ///
    /// `Store`, `Provider`; and what keeps this process from sealing: no error of a row.
    pub(super) async fn seal(&self, rows: &[ScannedRow]) -> Result<SealedPage> {
        let mut done = Done::default();
        let mut swaps = Vec::with_capacity(rows.len());
        let mut from = Vec::with_capacity(rows.len());
        for (at, (row, nonce)) in rows.iter().zip(Nonce::draw_many(rows.len())?).enumerate() {
            if at > 0 && at % SEALED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            let quarantined = self.counts().quarantined.get(&row.integration).copied();
            if quarantined.is_some_and(|hash| hash == sha256(&row.row.stored)) {
                continue;
            }
            if self.withheld.contains(&row.organization) {
                done.withheld += 1;
                continue;
            }
            // A process that lacks the key to seal under is at fault, not the row.
            let has_own =
                self.own_keys.read().unwrap_or_else(PoisonError::into_inner).contains(&row.organization);
            let to = self.keyring.scope_key(has_own.then_some(row.organization)).await?;
            match self.reencrypt(row, &to, nonce).await {
                Ok((key, swap)) => {
                    from.push(key);
                    swaps.push(swap);
                }
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
        Ok(SealedPage { rows: rows.len() as u32, swaps: swaps.into(), from, done })
    }

    /// Writes a page where its rows didn't change since they were read.
    ///
    /// # Errors
    ///
    /// `Store`.
    pub(super) async fn write(&self, page: &SealedPage) -> Result<Done> {
        let mut done = page.done;
        if !page.swaps.is_empty() {
            done.lost += page.swaps.len() as u64;
            match self.store.swap(self.run, Arc::clone(&page.swaps)).await? {
                Swapped::TookTooLong => done.took_too_long = true,
                Swapped::Written(written) => {
                    let written: HashSet<_> = written.into_iter().collect();
                    done.written = written.len() as u64;
                    done.lost -= done.written;
                    let mut counts = self.counts();
                    for (swap, key) in page.swaps.iter().zip(&page.from) {
                        if written.contains(&swap.integration) {
                            counts.quarantined.remove(&swap.integration);
                            *counts.re_encrypted.entry(*key).or_default() += 1;
                        }
                    }
                }
            }
        }
        self.lost.fetch_add(done.lost, Ordering::Relaxed);
        self.listener.hear(RotationEvent::Progress(self.progress()));
        Ok(done)
    }

    async fn reencrypt(
        &self,
        scanned: &ScannedRow,
        to: &SealingKey,
        nonce: Nonce,
    ) -> Result<(DataKeyId, Swap)> {
        let row = &scanned.row;
        let from = self.keyring.opening_key(key_of(&row.stored, &row.key_column)?).await?;
        let context = RowContext {
            organization: scanned.organization,
            integration: scanned.integration,
            credential_type: &row.credential_type,
        };
        let new = reencrypt(&from, to, nonce, &context, &row.stored, row.expires_at)?;
        let swap = Swap {
            address: scanned.address,
            integration: scanned.integration,
            organization: scanned.organization,
            old: if from.id().is_legacy() {
                row.stored.clone()
            } else {
                Revision::of(&row.stored).as_str().to_owned()
            },
            old_expires_at: row.expires_at,
            new,
            key: to.id(),
        };
        Ok((from.id(), swap))
    }

    /// Lists a row that didn't open, unless it was changed meanwhile.
    async fn quarantine(&self, scanned: &ScannedRow, error: &Error) -> Result<Row> {
        let integration = scanned.integration;
        let now = self.store.get(integration).await?;
        let holder = self.store.organization_of(integration).await?;
        let stands =
            now.is_some_and(|row| row.stored == scanned.row.stored) && holder == Some(scanned.organization);
        if !stands {
            return Ok(Row::Changed);
        }
        tracing::warn!(%integration, reason = %error.kind(), "row put in quarantine");
        let row = QuarantinedRow {
            integration,
            reason: error.kind().to_string(),
            stored_sha256: sha256(&scanned.row.stored),
        };
        self.store.quarantine(&row).await?;
        self.counts().quarantined.insert(integration, row.stored_sha256);
        self.listener.hear(RotationEvent::Quarantined { integration_id: integration, reason: error.kind() });
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

/// The hash of a stored text, as the quarantine keeps it.
pub(crate) fn sha256(stored: &str) -> [u8; 32] {
    Sha256::digest(stored.as_bytes()).into()
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use sqlx::sqlite::SqliteConnectOptions;
    use uuid::Uuid;

    use super::*;
    use crate::keyring::MasterKeys;
    use crate::store::sqlite::SqliteStore;
    use crate::store::{CredentialRow, Cursor, RowAddress};

    #[tokio::test]
    async fn other_tasks_get_their_turns_while_a_page_is_sealed() {
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::in_memory(SqliteConnectOptions::new().in_memory(true)).await.unwrap());
        let (vault, organization) = (Uuid::nil().into(), OrganizationId::from(Uuid::nil()));
        let keyring = Keyring::new(Arc::clone(&store), vault, MasterKeys::new(vault, Vec::new()));
        let withheld = HashSet::from([organization]);
        let pages = Reencryption::new(store, Arc::new(keyring), RunId(1), Listener::none(), withheld, 0);
        let row = || ScannedRow {
            cursor: Cursor::RowId(1),
            address: RowAddress::RowId(1),
            integration: Uuid::nil().into(),
            organization,
            connector: String::new(),
            row: CredentialRow {
                credential_type: String::new(),
                stored: String::new(),
                key_column: String::new(),
                expires_at: None,
            },
        };
        let rows: Vec<_> = (0..=3 * SEALED_AT_ONCE).map(|_| row()).collect();
        let turns = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&turns);
        tokio::spawn(async move {
            loop {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(pages.seal(&rows).await.unwrap().done.withheld, rows.len() as u64);
        assert!(turns.load(Ordering::Relaxed) >= 3);
    }
}
