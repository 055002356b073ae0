//! The keys of the hierarchy: a master key wraps data keys, a data key seals and opens rows.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::key_bytes::KeyBytes;
use super::locked::Locked;
use super::memory::with_wiped_stack;
use super::subkeys::{MacKey, Purpose, Subkeys, pae};
use super::xaes::{GcmKey, XaesKey};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, MasterKeyId, OrganizationId, VaultId};

/// The size of a key check, in bytes.
pub(crate) const KEY_CHECK_BYTES: usize = 16;

/// What is stored beside a key to tell, before a row is written, whether a key is that key. It is public.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyCheck([u8; KEY_CHECK_BYTES]);

impl KeyCheck {
    /// The check as it is stored.
    pub(crate) const fn as_bytes(&self) -> &[u8; KEY_CHECK_BYTES] {
        &self.0
    }

    /// A stored check, or `None` unless it has [`KEY_CHECK_BYTES`].
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn of(key: &MacKey, text: &[u8]) -> Self {
        let mut check = [0; KEY_CHECK_BYTES];
        check.copy_from_slice(&key.mac(&[text])[..KEY_CHECK_BYTES]);
        Self(check)
    }
}

/// What a key check is a MAC of; a master key has no organization.
fn key_check_text(vault: VaultId, key: &[u8; 16], organization: Option<OrganizationId>) -> Vec<u8> {
    let organization = organization.as_ref().map_or(&[][..], |id| id.as_bytes());
    pae([b"credvault/v1/key-check", vault.as_bytes(), key, organization])
}

/// A master key: wraps data keys, never touches a row.
pub struct MasterKey {
    id: MasterKeyId,
    bytes: KeyBytes,
    subkeys: Subkeys,
}

impl MasterKey {
    /// The master key `id` with its bytes.
    #[must_use]
    pub fn new(id: MasterKeyId, bytes: KeyBytes) -> Self {
        let subkeys = with_wiped_stack(|| Subkeys::derive(bytes.expose(), Purpose::DataKey, id.as_bytes()));
        Self { id, bytes, subkeys }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> MasterKeyId {
        self.id
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &KeyBytes {
        &self.bytes
    }

    /// What wraps and commits.
    pub(crate) fn subkeys(&self) -> &Subkeys {
        &self.subkeys
    }

    /// The check to store beside it in `vault`.
    pub(crate) fn key_check(&self, vault: VaultId) -> KeyCheck {
        with_wiped_stack(|| KeyCheck::of(&self.subkeys.check, &self.key_check_text(vault)))
    }

    /// Whether `check` is this key's in `vault`, in constant time.
    #[must_use]
    pub(crate) fn verify(&self, vault: VaultId, check: &KeyCheck) -> bool {
        with_wiped_stack(|| self.subkeys.check.verify(&self.key_check_text(vault), &check.0))
    }

    fn key_check_text(&self, vault: VaultId) -> Vec<u8> {
        key_check_text(vault, self.id.as_bytes(), None)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A data key with its bytes, on its way to or from its wrapped form; [opening](Self::into_opening) or
/// [sealing](Self::into_sealing) with it takes another type, without the bytes.
pub(crate) struct DataKey {
    id: DataKeyId,
    organization: Option<OrganizationId>,
    bytes: KeyBytes,
    subkeys: Subkeys,
}

impl DataKey {
    /// A fresh data key of `organization`, or a shared one.
    ///
    /// # Errors
    ///
    /// `Provider` if the operating system's generator fails.
    pub(crate) fn generate(organization: Option<OrganizationId>) -> Result<Self> {
        Ok(Self::new(DataKeyId::generate(), organization, KeyBytes::generate()?))
    }

    /// The shared key of the rows that were there before the vault: SHA-256 of that service's salt.
    pub(crate) fn legacy(salt: &[u8]) -> Self {
        let bytes = with_wiped_stack(|| {
            let mut bytes = KeyBytes::zeros();
            Sha256::new_with_prefix(salt).finalize_into(bytes.expose_mut().into());
            bytes
        });
        Self::new(DataKeyId::LEGACY, None, bytes)
    }

    /// The data key that was wrapped as these bytes.
    pub(crate) fn new(id: DataKeyId, organization: Option<OrganizationId>, bytes: KeyBytes) -> Self {
        let subkeys = with_wiped_stack(|| Subkeys::derive(bytes.expose(), Purpose::Row, id.as_bytes()));
        Self { id, organization, bytes, subkeys }
    }

    pub(crate) fn id(&self) -> DataKeyId {
        self.id
    }

    /// The only organization that it may seal for, or `None` for a shared key.
    pub(crate) fn organization(&self) -> Option<OrganizationId> {
        self.organization
    }

    /// Its bytes, to be wrapped.
    pub(crate) fn bytes(&self) -> &KeyBytes {
        &self.bytes
    }

    /// The check to store beside it in `vault`.
    pub(crate) fn key_check(&self, vault: VaultId) -> KeyCheck {
        with_wiped_stack(|| KeyCheck::of(&self.subkeys.check, &self.key_check_text(vault)))
    }

    /// Whether `check` is this key's in `vault`, in constant time.
    #[must_use]
    pub(crate) fn verify(&self, vault: VaultId, check: &KeyCheck) -> bool {
        with_wiped_stack(|| self.subkeys.check.verify(&self.key_check_text(vault), &check.0))
    }

    /// The power to open what it has sealed.
    pub(crate) fn into_opening(self) -> OpeningKey {
        let cipher = if self.id.is_legacy() {
            with_wiped_stack(|| RowCipher::Legacy(Arc::new(Locked::new(GcmKey::new(self.bytes.expose())))))
        } else {
            RowCipher::Cv1(self.subkeys.aead)
        };
        OpeningKey { id: self.id, cipher }
    }

    /// The power to seal.
    ///
    /// # Errors
    ///
    /// `Refused` for the legacy key, which only opens.
    pub(crate) fn into_sealing(self) -> Result<SealingKey> {
        if self.id.is_legacy() {
            return Err(Error::new(
                ErrorKind::Refused,
                "the legacy key `v1` opens rows and never seals: make and activate a data key",
            ));
        }
        Ok(SealingKey { id: self.id, cipher: self.subkeys.aead })
    }

    fn key_check_text(&self, vault: VaultId) -> Vec<u8> {
        key_check_text(vault, self.id.as_bytes(), self.organization)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey")
            .field("id", &self.id)
            .field("organization", &self.organization)
            .finish_non_exhaustive()
    }
}

/// The power to open rows: what an active or a deactivated data key yields.
pub(crate) struct OpeningKey {
    id: DataKeyId,
    cipher: RowCipher,
}

/// How the rows of a key were sealed.
pub(crate) enum RowCipher {
    Cv1(Arc<Locked<XaesKey>>),
    Legacy(Arc<Locked<GcmKey>>),
}

impl OpeningKey {
    pub(crate) fn id(&self) -> DataKeyId {
        self.id
    }

    pub(crate) fn cipher(&self) -> &RowCipher {
        &self.cipher
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey({})", self.id)
    }
}

/// The power to seal rows: what only an active data key yields.
pub(crate) struct SealingKey {
    id: DataKeyId,
    cipher: Arc<Locked<XaesKey>>,
}

impl SealingKey {
    pub(crate) fn id(&self) -> DataKeyId {
        self.id
    }

    pub(crate) fn cipher(&self) -> &XaesKey {
        &self.cipher
    }

    /// The power to open what it seals.
    pub(crate) fn opening(&self) -> OpeningKey {
        OpeningKey { id: self.id, cipher: RowCipher::Cv1(Arc::clone(&self.cipher)) }
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}
