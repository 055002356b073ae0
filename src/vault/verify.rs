//! Verification: every key and every row opened, none shown, nothing written.

use std::fmt;

use super::Vault;
use crate::envelope::{RowContext, key_of, open_credential};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, IntegrationId};
use crate::store::{KeyState, On, Phase, Range, Rows, ScannedRow};

/// Rows read at once: a page of ordinary credentials is some hundred KiB.
const PAGE_ROWS: u32 = 500;

/// The most findings that a verification lists; it counts them all.
pub const MAX_FINDINGS: usize = 1_000;

/// A verification to run: from [`Vault::verify`].
pub struct Verify {
    vault: Vault,
    progress: Box<dyn Fn(u64) + Send + Sync>,
}

/// What a verification found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verification {
    /// Rows that opened, as they should.
    pub rows_opened: u64,
    /// Legacy rows that were left unopened because no legacy key is registered.
    pub rows_unopened: u64,
    /// Data keys that unwrapped and passed their key check.
    pub keys_checked: u64,
    /// How many findings there were.
    pub findings_count: u64,
    /// The first [`MAX_FINDINGS`] of them.
    pub findings: Vec<Finding>,
}

/// Something that isn't as it was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Finding {
    /// A credential's row.
    Row {
        /// Whose credential it is.
        integration: IntegrationId,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A data key's record.
    Key {
        /// The key.
        key: DataKeyId,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A record among those of the data keys that can't be read, and may name no key.
    KeyRecord {
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a row or a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Problem {
    /// It does not open: the kind of error, and its message.
    DoesNotOpen(ErrorKind, String),
    /// The column `expires_at` differs from the sealed expiry, which is the true one.
    ExpiryDiffers,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row { integration, problem } => write!(f, "integration {integration}: {problem}"),
            Self::Key { key, problem } => write!(f, "data key {key}: {problem}"),
            Self::KeyRecord { problem } => write!(f, "{problem}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoesNotOpen(kind, message) => write!(f, "{kind}: {message}"),
            Self::ExpiryDiffers => f.write_str("the column expires_at differs from the sealed expiry"),
        }
    }
}

impl Problem {
    /// What is wrong with an integration's row, without saying whose it is again.
    fn of_row(integration: IntegrationId, error: &Error) -> Self {
        let message = error.to_string();
        let whose = format!("credential of integration {integration}: ");
        Self::DoesNotOpen(error.kind(), message.strip_prefix(&whose).unwrap_or(&message).to_owned())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::DoesNotOpen(error.kind(), error.to_string())
    }
}

impl Verify {
    pub(super) fn new(vault: Vault) -> Self {
        Self { vault, progress: Box::new(|_| {}) }
    }

    /// Calls `progress` after each page with the number of rows read so far.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// Checks every data key and opens every row, in pages.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails, `Provider` if a master key can't be had. What is wrong with a row or a key is a finding, not an error.
    pub async fn run(self) -> Result<Verification> {
        let store = &self.vault.0.store;
        let mut verification = Verification {
            rows_opened: 0,
            rows_unopened: 0,
            keys_checked: 0,
            findings_count: 0,
            findings: Vec::new(),
        };
        let phase = store.identity().await?.map_or(Phase::None, |identity| identity.phase);
        for key in store.data_keys().await? {
            let key = match key {
                Ok(key) => key,
                Err(error) => {
                    verification.add(Finding::KeyRecord { problem: error.into() });
                    continue;
                }
            };
            if key.state == KeyState::Destroyed || (key.id.is_legacy() && phase == Phase::None) {
                continue;
            }
            match self.vault.0.keyring.unwrap(On::Pool, &key).await {
                Ok(_) => verification.keys_checked += 1,
                Err(error) if is_of_the_process(&error) => return Err(error),
                Err(error) => verification.add(Finding::Key { key: key.id, problem: error.into() }),
            }
        }
        let (mut rest, mut read) = (Some(Range::ALL), 0);
        while let Some(range) = rest {
            let page = store.scan(Rows::All, range, PAGE_ROWS).await?;
            rest = page.last().and_then(|last| range.after(last.cursor));
            read += page.len() as u64;
            for row in page {
                // By its text, too: a value of the vault's own under that key id is a finding in every phase.
                let key = key_of(&row.row.stored, &row.row.key_column);
                if phase == Phase::None && key.is_ok_and(|id| id.is_legacy()) {
                    verification.rows_unopened += 1;
                    continue;
                }
                match self.check(&row).await {
                    Ok(None) => verification.rows_opened += 1,
                    Ok(Some(problem)) => {
                        verification.add(Finding::Row { integration: row.integration, problem });
                    }
                    Err(error) if is_of_the_process(&error) => return Err(error),
                    Err(error) => {
                        if self.still_stands(&row).await? {
                            verification.add(Finding::Row {
                                integration: row.integration,
                                problem: Problem::of_row(row.integration, &error),
                            });
                        }
                    }
                }
            }
            (self.progress)(read);
        }
        Ok(verification)
    }

    /// Opens a row as the integration's organization would.
    async fn check(&self, row: &ScannedRow) -> Result<Option<Problem>> {
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
    async fn still_stands(&self, read: &ScannedRow) -> Result<bool> {
        let store = &self.vault.0.store;
        let row = store.get(read.integration).await?;
        let unchanged = row.is_some_and(|row| row.stored == read.row.stored);
        Ok(unchanged && store.organization_of(read.integration).await? == Some(read.organization))
    }
}

/// Whether an error says nothing of a row or a key: the database, or a provider, is away.
fn is_of_the_process(error: &Error) -> bool {
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
        f.debug_struct("Verify").field("vault", &self.vault).finish_non_exhaustive()
    }
}
