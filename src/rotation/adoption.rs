//! Adoption: the rows that another service sealed before the vault came.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::crypto::key::{DataKey, KeyCheck};
use crate::envelope::{Nonce, RowContext, WrapContext, open_credential, wrap_key};
use crate::error::{Error, ErrorKind, Result};
use crate::id::DataKeyId;
use crate::keyring::{Keyring, active_master_key};
use crate::limit::{self, within};
use crate::store::{On, Phase, Range, Rows, Store, WrappedKey};

/// How many legacy rows a salt is tried on, at most, before it is refused.
pub const LEGACY_ROWS_TRIED: u32 = 1_000;

/// What the service that was there before used when its salt was unset: known to everybody.
const DEVELOPMENT_SALT: &[u8] = b"default-salt-for-development-only";

/// The salt that the service that was there before made its key from: the bytes of its `ENCRYPTION_SALT`, wiped when
/// dropped.
pub struct LegacySalt {
    bytes: Zeroizing<Vec<u8>>,
    leaked: Leaked,
}

/// What is done about a salt that everybody knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaked {
    Refused,
    Accepted,
}

impl LegacySalt {
    /// The salt's bytes, exactly: a newline at the end is one of them.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self { bytes, leaked: Leaked::Refused }
    }

    /// Accepts the salt that the service used when none was set. Everybody knows it: treat every credential under it
    /// as leaked, and re-issue it at its provider.
    #[must_use]
    pub fn accept_leaked(mut self) -> Self {
        self.leaked = Leaked::Accepted;
        self
    }
}

impl fmt::Debug for LegacySalt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// An adoption to run: from [`Vault::adoption`](crate::Vault::adoption).
#[derive(Debug)]
pub struct Adoption {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    salt: LegacySalt,
}

/// What an adoption did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdoptionReport {
    /// Legacy rows that the key was tried on; with none, nothing could be checked.
    pub rows_tried: u64,
    /// Those that it opened.
    pub rows_opened: u64,
    /// Whether the key had been registered before, and nothing was to be done.
    pub already_registered: bool,
}

impl Adoption {
    pub(crate) fn new(store: Arc<dyn Store>, keyring: Arc<Keyring>, salt: LegacySalt) -> Self {
        Self { store, keyring, salt }
    }

    /// Registers the key, wrapped like a data key, and begins the phase observe: from then on legacy rows read like any
    /// other, and stay as they are. The salt is not stored.
    ///
    /// # Errors
    ///
    /// `Refused`, and nothing changed, if there are legacy rows and the key opens none of the first
    /// [`LEGACY_ROWS_TRIED`], if the salt is known to everybody, or if another key is registered; `InvalidInput` for an
    /// empty salt; `Store` if the database fails.
    #[tracing::instrument(skip_all, err(level = "debug"))]
    pub async fn run(self) -> Result<AdoptionReport> {
        within(limit::TABLE, self.adopt()).await
    }

    async fn adopt(&self) -> Result<AdoptionReport> {
        let refused = |why: &str| Error::new(ErrorKind::Refused, format!("the salt was not adopted: {why}"));
        let salt = self.salt.bytes.as_slice();
        if salt.is_empty() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the salt is empty; a service whose salt was unset used its development salt",
            ));
        }
        if salt == DEVELOPMENT_SALT && self.salt.leaked == Leaked::Refused {
            return Err(refused(
                "everybody knows this development salt, so every credential under it is to be treated as leaked: \
                 accept that (`credvault adopt --accept-leaked-salt`) and re-issue them all",
            ));
        }
        let phase = self.store.identity().await?.map_or(Phase::None, |identity| identity.phase);
        let (rows_tried, rows_opened) = self.try_on_rows(salt).await?;
        if phase != Phase::None {
            self.is_registered(salt).await?;
            return Ok(AdoptionReport { rows_tried, rows_opened, already_registered: true });
        }
        if rows_tried > 0 && rows_opened == 0 {
            return Err(refused(&format!(
                "its key opens none of the first {rows_tried} legacy rows{}",
                if salt.ends_with(b"\n") {
                    "; it ends in a newline, which the service's salt may not have (`printf %s` writes none)"
                } else {
                    "; is it the salt of that service, without quotes, spaces or a newline that the service \
                     doesn't have?"
                }
            )));
        }
        self.register(salt).await?;
        Ok(AdoptionReport { rows_tried, rows_opened, already_registered: false })
    }

    /// How many of the first legacy rows there are, and how many the salt's key opens.
    async fn try_on_rows(&self, salt: &[u8]) -> Result<(u64, u64)> {
        let key = DataKey::legacy(salt).into_opening();
        let rows = self.store.scan(Rows::Legacy, Range::ALL, LEGACY_ROWS_TRIED).await?;
        let opens = rows.iter().filter(|scanned| {
            let context = RowContext {
                organization: scanned.organization,
                integration: scanned.integration,
                credential_type: &scanned.row.credential_type,
            };
            open_credential(&key, &context, &scanned.row.stored, scanned.row.expires_at).is_ok()
        });
        Ok((rows.len() as u64, opens.count() as u64))
    }

    /// Holds the salt's key to the one that is registered.
    async fn is_registered(&self, salt: &[u8]) -> Result<()> {
        let row = self.store.data_key(On::Pool, DataKeyId::LEGACY).await?;
        let check = row.and_then(|row| row.key_check).as_deref().and_then(KeyCheck::from_slice);
        match check {
            Some(check) if DataKey::legacy(salt).verify(self.keyring.vault(), &check) => Ok(()),
            _ => Err(Error::new(ErrorKind::Refused, "another legacy key is registered already")),
        }
    }

    /// Stores the key, wrapped by the active master key.
    async fn register(&self, salt: &[u8]) -> Result<()> {
        let (store, vault) = (self.store.as_ref(), self.keyring.vault());
        let active = active_master_key(store, None).await?;
        let (master, _) = self.keyring.master_keys().get(store, On::Pool, active.id).await?;
        let key = DataKey::legacy(salt);
        let context = WrapContext { vault, data_key: DataKeyId::LEGACY, organization: None };
        let wrapped =
            WrappedKey { master_key: master.id(), text: wrap_key(&master, Nonce::draw()?, &context, &key)? };
        let check = *key.key_check(vault).as_bytes();
        drop(key);
        if !store.register_legacy_key(check, &wrapped).await? {
            return Err(Error::new(
                ErrorKind::Refused,
                "a legacy key was registered meanwhile, or the legacy key is destroyed",
            ));
        }
        self.keyring.opening_key(DataKeyId::LEGACY).await.map(drop)
    }
}

/// Moves the adoption on by one phase; `false` if it is in that phase already.
///
/// # Errors
///
/// `Refused` in any other phase than the one before; `Store` if the database fails.
pub(crate) async fn move_on(store: &dyn Store, from: Phase, to: Phase) -> Result<bool> {
    if store.set_phase(from, to).await? {
        tracing::info!(phase = to.as_str(), "adoption moved on");
        return Ok(true);
    }
    let phase = store.identity().await?.map_or(Phase::None, |identity| identity.phase);
    if phase == to {
        return Ok(false);
    }
    Err(Error::new(
        ErrorKind::Refused,
        format!(
            "the adoption of legacy rows is in the phase {}: {} follows on {}",
            phase.as_str(),
            to.as_str(),
            from.as_str()
        ),
    ))
}
