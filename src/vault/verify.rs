//! Verification: every key and every row opened, none shown, nothing written.

mod finding;
mod keys;

use std::collections::BTreeSet;
use std::fmt;

use super::{Inner, Vault};
use crate::envelope::{RowContext, key_of, open_credential};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntegrationId, OrganizationId};
use crate::limit::{self, within};
use crate::store::{Phase, PlacedRow, Range, Rows};

pub use finding::{Finding, Problem};

/// Rows read at once: a page of ordinary credentials is some hundred KiB.
const PAGE_ROWS: u32 = 500;

/// The most findings that a verification lists; it counts them all.
pub const MAX_FINDINGS: usize = 1_000;

/// The largest sample: the ids of its rows are held in memory, 16 bytes each.
pub const MAX_SAMPLE_ROWS: u32 = 1_000_000;

/// The legacy key in a row's column.
const LEGACY_KEY_COLUMN: &str = "v1";

/// What becomes of legacy rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Legacy {
    Opened,
    PassedOver,
}

/// A verification to run: from [`Vault::verify`].
pub struct Verify {
    vault: Vault,
    /// How many rows to draw; all of them unless it says so.
    sample: Option<u32>,
    progress: Box<dyn Fn(u64) + Send + Sync>,
}

/// What a verification found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Verification {
    /// Rows that opened, as they should.
    pub rows_opened: u64,
    /// Legacy rows that were left unopened because no legacy key is registered.
    pub rows_unopened: u64,
    /// Master keys that unlocked and passed their key check: the active one, and those that still wrap a data key.
    pub master_keys_checked: u64,
    /// Data keys that unwrapped and passed their key check.
    pub keys_checked: u64,
    /// How many findings there were.
    pub findings_count: u64,
    /// The first [`MAX_FINDINGS`] of them.
    pub findings: Vec<Finding>,
}

impl Verify {
    pub(super) fn new(vault: Vault) -> Self {
        Self { vault, sample: None, progress: Box::new(|_| {}) }
    }

    /// Opens only `rows` rows, drawn at random from the whole table, each as likely as any other; all of them where there
    /// are no more. Its cost grows with `rows` and the number of keys, not with the table. Keys are checked as ever.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless it is 1 to [`MAX_SAMPLE_ROWS`].
    pub fn sample(mut self, rows: u32) -> Result<Self> {
        if !(1..=MAX_SAMPLE_ROWS).contains(&rows) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("a sample has 1 to {MAX_SAMPLE_ROWS} rows, not {rows}"),
            ));
        }
        self.sample = Some(rows);
        Ok(self)
    }

    /// Calls `progress` after each page with the number of rows read so far.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Checks the records of all keys, looks for what names something that isn't there, and opens every row, or those of
    /// the sample, in pages. Nothing is written.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails, `Provider` if a master key can't be had. What is wrong with a row or a key is a
    /// finding, not an error.
    pub async fn run(self) -> Result<Verification> {
        let mut verification = Verification::default();
        let legacy = within(limit::TABLE, self.check_keys(&mut verification)).await?;
        match self.sample {
            Some(rows) => self.open_sample(rows, legacy, &mut verification).await?,
            None => self.open_all(legacy, &mut verification).await?,
        }
        Ok(verification)
    }

    /// Checks the records of all keys, and the quarantine; gives what becomes of legacy rows.
    async fn check_keys(&self, verification: &mut Verification) -> Result<Legacy> {
        let (store, keyring) = (self.vault.0.store.as_ref(), self.vault.0.keyring.as_ref());
        let phase = store.identity().await?.map_or(Phase::None, |identity| identity.phase);
        keys::check_master_keys(store, keyring, verification).await?;
        keys::check_data_keys(store, keyring, phase, verification).await?;
        for integration in store.quarantined_without_row().await? {
            verification.add(Finding::Quarantine { integration, problem: Problem::CredentialGone });
        }
        // Where nobody has registered the legacy key its rows are passed over, as long as its placeholder stands.
        Ok(match phase {
            Phase::None if store.has_material(LEGACY_KEY_COLUMN).await? => Legacy::PassedOver,
            _ => Legacy::Opened,
        })
    }

    async fn open_all(&self, legacy: Legacy, verification: &mut Verification) -> Result<()> {
        let store = &self.vault.0.store;
        // No scan gives these: nobody could say whose they are.
        let orphans = within(limit::TABLE, store.without_integration(MAX_FINDINGS as u32)).await?;
        verification.findings_count += orphans.count - orphans.first.len() as u64;
        for integration in orphans.first {
            verification.add(Finding::Row { integration, problem: Problem::IntegrationGone });
        }
        let (mut rest, mut read) = (Some(Range::ALL), 0);
        while let Some(range) = rest {
            let page = within(limit::TABLE, store.scan(Rows::All, range, PAGE_ROWS)).await?;
            rest = page.last().and_then(|last| range.after(last.cursor));
            read += page.len() as u64;
            for row in page {
                within(self.vault.0.call_limit, self.judge(&row.into(), legacy, verification)).await?;
            }
            (self.progress)(read);
        }
        Ok(())
    }

    async fn open_sample(&self, rows: u32, legacy: Legacy, verification: &mut Verification) -> Result<()> {
        let store = &self.vault.0.store;
        let mut read = 0;
        for drawn in within(limit::TABLE, store.sample(rows)).await?.chunks(PAGE_ROWS as usize) {
            let mut left: BTreeSet<_> = drawn.iter().copied().collect();
            // A page ends before the rows are too much to hold: the last one says where.
            while !left.is_empty() {
                let ids: Vec<_> = left.iter().copied().collect();
                let page = within(limit::TABLE, store.rows_of(&ids)).await?;
                let after = page.last().map(|row| row.integration);
                for row in &page {
                    left.remove(&row.integration);
                    within(self.vault.0.call_limit, self.judge(row, legacy, verification)).await?;
                }
                let rest = after.map(|last| left.split_off(&last)).unwrap_or_default();
                for integration in std::mem::replace(&mut left, rest) {
                    // Else it was deleted since it was drawn.
                    if within(self.vault.0.call_limit, self.is_orphan(integration)).await? {
                        verification.add(Finding::Row { integration, problem: Problem::IntegrationGone });
                    }
                }
            }
            read += drawn.len() as u64;
            (self.progress)(read);
        }
        Ok(())
    }

    /// Opens a row, and adds what is wrong with it.
    async fn judge(&self, row: &PlacedRow, legacy: Legacy, verification: &mut Verification) -> Result<()> {
        let (store, integration) = (&self.vault.0.store, row.integration);
        // By its text, too: a value of the vault's own under that key id is a finding in every phase.
        let key = key_of(&row.row.stored, &row.row.key_column);
        if legacy == Legacy::PassedOver && key.is_ok_and(|id| id.is_legacy()) {
            verification.rows_unopened += 1;
            return Ok(());
        }
        match self.open(row).await {
            Ok(None) => verification.rows_opened += 1,
            Ok(Some(problem)) => verification.add(Finding::Row { integration, problem }),
            Err(error) if is_of_the_process(&error) && !self.is_withheld(row.organization).await? => {
                return Err(error);
            }
            Err(error) => {
                if self.still_stands(row).await? {
                    let problem = if store.has_material(&row.row.key_column).await? {
                        Problem::of_row(integration, &error)
                    } else {
                        Problem::KeyGone(row.row.key_column.clone())
                    };
                    verification.add(Finding::Row { integration, problem });
                }
            }
        }
        Ok(())
    }

    /// Opens a row as the integration's organization would.
    async fn open(&self, row: &PlacedRow) -> Result<Option<Problem>> {
        let stored = &row.row;
        let id = key_of(&stored.stored, &stored.key_column)?;
        let key = self.vault.0.keyring.opening_key(id).await?;
        let context = RowContext {
            organization: row.organization,
            integration: row.integration,
            credential_type: &stored.credential_type,
        };
        let credential = open_credential(&key, &context, &stored.stored, stored.expires_at)?;
        let differs = credential.expiry()? != stored.expires_at;
        Ok(differs.then_some(Problem::ExpiryDiffers))
    }

    /// Whether a row that didn't open is still the one that was read: a transfer or a rotation may have come between.
    async fn still_stands(&self, read: &PlacedRow) -> Result<bool> {
        let store = &self.vault.0.store;
        let row = store.get(read.integration).await?;
        let unchanged = row.is_some_and(|row| row.stored == read.row.stored);
        Ok(unchanged && store.organization_of(read.integration).await? == Some(read.organization))
    }

    /// Whether there is a credential without its integration.
    async fn is_orphan(&self, integration: IntegrationId) -> Result<bool> {
        let store = &self.vault.0.store;
        Ok(store.organization_of(integration).await?.is_none() && store.get(integration).await?.is_some())
    }
}

impl Verify {
    /// Whether an organization's own master key can't be had, which is a finding of each of its rows.
    async fn is_withheld(&self, organization: OrganizationId) -> Result<bool> {
        let Inner { store, keyring, .. } = self.vault.0.as_ref();
        Ok(keyring.master_keys().withheld(store.as_ref()).await?.contains_key(&organization))
    }
}

/// Whether an error says nothing of a row or a key: the database, or a provider, is away.
pub(super) fn is_of_the_process(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Store | ErrorKind::Provider)
}

impl Verification {
    fn add(&mut self, finding: Finding) {
        self.findings_count += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }
}

impl fmt::Debug for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verify")
            .field("vault", &self.vault)
            .field("sample", &self.sample)
            .finish_non_exhaustive()
    }
}
