//! The vault: opens a database with its master keys, and hands out what works on it.

mod affected;
mod builder;
mod credentials;
mod init;
mod keys;
mod master_key_check;
mod organization;
mod quarantine;
mod refresh;
mod status;
mod transfer;
mod verify;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::clock::{Clock, Timestamp};
use crate::credential::Summary;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntegrationId, OrganizationId, VaultId};
use crate::keyring::Keyring;
use crate::limit::{self, StandingTimer, within};
use crate::provider::MasterKeyProvider;
use crate::rotation::{Adoption, LegacySalt, Rewrap, Rotation, RunSummary, move_on, run_summaries};
use crate::store::{Phase, Store};

pub use affected::CredentialsUnderKey;
pub use builder::VaultBuilder;
pub use credentials::{CredentialEntry, Credentials};
pub use keys::{Compromised, Grace, Keys};
pub use master_key_check::{MasterKeyCheck, NeededMasterKey, ProviderCheck};
pub use organization::Organization;
pub use quarantine::{Quarantine, QuarantineReport, QuarantinedCredential};
pub use refresh::RefreshedMasterKey;
use status::Counting;
pub use status::{MasterKeySummary, Status};
pub use verify::{Finding, MAX_FINDINGS, MAX_SAMPLE_ROWS, Problem, Verification, Verify};

/// A vault in a database: cheap to clone, to be shared by all of a process.
///
/// ```
/// # #[cfg(feature = "sqlite")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite:{}", folder.path().join("vault.db").display());
/// # let key = folder.path().join("master.key");
/// # credvault::provider::KeyFile::generate(&key)?;
/// # let master_key = format!("file:{}", key.display());
/// # credvault::Vault::builder().url(&url).master_key(&master_key)?.create_if_missing().build().await?;
/// # let organization_id = uuid::Uuid::new_v4();
/// use credvault::{Credential, CredentialType, Vault};
///
/// let vault = Vault::open(&url, &master_key).await?;
/// let organization = vault.organization(organization_id);
/// let integration = organization.ensure_integration("github").await?;
///
/// let token = Credential::new(CredentialType::token()).with_field("access_token", "ghp_…");
/// organization.put(integration, &token).await?;
/// let stored = organization.get(integration).await?.expect("it was just put");
/// # assert!(stored.credential.field("access_token").is_some());
/// # Ok(())
/// # })
/// # }
/// # #[cfg(not(feature = "sqlite"))]
/// # fn main() {}
/// ```
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    id: VaultId,
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    call_limit: Duration,
    _timer: StandingTimer,
}

impl Vault {
    /// Opens the vault in the database at `url` (`postgres://…` or `sqlite:PATH`) with the master key that
    /// `master_key` says (see [`provider::from_spec`](crate::provider::from_spec)).
    ///
    /// Never creates or migrates anything; see [`VaultBuilder::create_if_missing`] for that.
    ///
    /// # Errors
    ///
    /// `NotInitialized` if the database holds no vault; `KeyUnavailable` if a master key that is needed is missing;
    /// `KeyMismatch` if the one given is another; `Provider` if it can't be had; `InvalidInput` if `url` or `master_key`
    /// is of no known form; `Unsupported` if this build has no such database; `Store` if it can't be reached.
    pub async fn open(url: &str, master_key: &str) -> Result<Self> {
        Self::builder().url(url).master_key(master_key)?.build().await
    }

    /// Begins to open or create a vault.
    #[must_use]
    pub fn builder() -> VaultBuilder {
        VaultBuilder::default()
    }

    /// The vault's id.
    #[must_use]
    pub fn id(&self) -> VaultId {
        self.0.id
    }

    /// The credentials of one organization.
    #[must_use]
    pub fn organization(&self, id: impl Into<OrganizationId>) -> Organization {
        Organization::new(self.clone(), id.into())
    }

    /// Moves an integration and its credential from one organization to another.
    ///
    /// The integration may be the new organization's already, as after a change by hand. Its credential is sealed
    /// anew, for the new organization, in the transaction that moves the integration. Whether `to` may have it is the
    /// caller's decision: never take it from a request alone.
    ///
    /// # Errors
    ///
    /// `NotFound` if the integration isn't of either organization, or has no credential; `Refused` if the new
    /// organization has an integration with that connector; `Conflict` if the credential kept changing; what
    /// [`Organization::get`] gives if the credential doesn't open.
    pub async fn transfer(
        &self,
        integration: impl Into<IntegrationId>,
        from: impl Into<OrganizationId>,
        to: impl Into<OrganizationId>,
    ) -> Result<()> {
        let transfer = transfer::transfer(self, integration.into(), from.into(), to.into());
        within(self.0.call_limit, transfer).await
    }

    /// The credentials that expire before a moment, soonest first, at most `limit`; nothing is opened.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a moment outside the years 0001 to 9999, `Store` if the database fails.
    pub async fn expiring(&self, before: OffsetDateTime, limit: u32) -> Result<Vec<Summary>> {
        let before = Timestamp::floor(before).ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "the moment lies in the years 0001 to 9999 UTC")
        })?;
        within(self.0.call_limit, self.0.store.expiring(before, limit)).await
    }

    /// All credentials of all organizations, opened one after the other, for an export.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials::new(self.clone())
    }

    /// The data keys.
    #[must_use]
    pub fn keys(&self) -> Keys {
        Keys::new(self.clone())
    }

    /// A rotation of data keys: new keys where they are due, every row under the active key of its scope. See
    /// [the protocol](crate::manual::rotation).
    #[must_use]
    pub fn rotation(&self) -> Rotation {
        Rotation::new(Arc::clone(&self.0.store), Arc::clone(&self.0.keyring), Arc::clone(&self.0.clock))
    }

    /// A rewrap of all data keys under the master key of another provider. No row is touched. See
    /// [the order of work](crate::manual::operations).
    #[must_use]
    pub fn rewrap(&self, to: Arc<dyn MasterKeyProvider>) -> Rewrap {
        Rewrap::new(Arc::clone(&self.0.store), Arc::clone(&self.0.keyring), Arc::clone(&self.0.clock), to)
    }

    /// The adoption of the rows that another service sealed under a key made from `salt`.
    #[must_use]
    pub fn adoption(&self, salt: LegacySalt) -> Adoption {
        Adoption::new(Arc::clone(&self.0.store), Arc::clone(&self.0.keyring), salt)
    }

    /// Lets rotations re-encrypt legacy rows from now on: the phase re-encrypt. `false` if they do so already.
    ///
    /// Call it only once nothing but the vault reads the table: another service can't read what is re-encrypted. It may
    /// go on writing legacy rows, which the next rotation takes up.
    ///
    /// # Errors
    ///
    /// `Refused` before the legacy key is [adopted](Self::adoption), and after the cut-over; `Store` if the database
    /// fails.
    pub async fn re_encrypt_legacy_rows(&self) -> Result<bool> {
        within(self.0.call_limit, move_on(self.0.store.as_ref(), Phase::Observe, Phase::ReEncrypt)).await
    }

    /// Lets the database refuse new legacy rows from now on: the phase cut-over. `false` if it does so already. The next
    /// rotation re-encrypts what is left of them, waits for the transactions that may still write one, and deletes the
    /// legacy key.
    ///
    /// # Errors
    ///
    /// `Refused` before the phase [re-encrypt](Self::re_encrypt_legacy_rows); `Store` if the database fails.
    pub async fn cut_over_legacy_rows(&self) -> Result<bool> {
        within(self.0.call_limit, move_on(self.0.store.as_ref(), Phase::ReEncrypt, Phase::CutOver)).await
    }

    /// A check of every key and every row, or of a sample of them; nothing is written, and no secret shown.
    #[must_use]
    pub fn verify(&self) -> Verify {
        Verify::new(self.clone())
    }

    /// The rows that a rotation could not open.
    #[must_use]
    pub fn quarantine(&self) -> Quarantine {
        Quarantine::new(self.clone())
    }

    /// What an operator asks of a vault: its keys, its rows, what remains to be done. Rows are counted by one fast scan of
    /// the column that names their key: those of an organization whose new key has not got them yet are taken for current.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn status(&self) -> Result<Status> {
        within(limit::TABLE, status::status(self, Counting::Fast)).await
    }

    /// The same, with the rows counted exactly: by a scan with each row's scope, and with the key that its text names.
    ///
    /// # Errors
    ///
    /// As [`status`](Self::status); `Malformed` if the table is full of garbage.
    pub async fn exact_status(&self) -> Result<Status> {
        within(limit::TABLE, status::status(self, Counting::Exact)).await
    }

    /// The latest runs of rotations and rewraps, the last one first, at most `limit`.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn runs(&self, limit: u32) -> Result<Vec<RunSummary>> {
        within(self.0.call_limit, run_summaries(self.0.store.as_ref(), limit)).await
    }

    /// Closes the connections of the vault, for all its clones, before a process ends; a pool of the caller's stays open,
    /// the caller's to close.
    ///
    /// Waits for the calls that have a connection, half a minute at most. Later ones fail with `Store`, on a pool of the vault's own, and so does
    /// a rotation at its next statement: end that first. Unwrapped keys are wiped when the last clone is dropped.
    pub async fn close(&self) {
        // A connection that is given back to the pool waits for the database, too.
        let _ = tokio::time::timeout(limit::CALL, self.0.store.close()).await;
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("id", &self.0.id).finish_non_exhaustive()
    }
}
