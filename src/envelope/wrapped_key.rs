//! Wrapped data keys: sealed by a master key, and committed to it.

use secrecy::ExposeSecretMut;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::context::WrapContext;
use super::header::{HEADER_BYTES, Header};
use super::nonce::Nonce;
use super::text::{self, malformed};
use crate::crypto::key::{DataKey, MasterKey};
use crate::crypto::key_bytes::{KEY_BYTES, KeyBytes};
use crate::crypto::memory::with_wiped_stack;
use crate::crypto::subkeys::{MAC_BYTES, Purpose};
use crate::crypto::xaes::TAG_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::id::MasterKeyId;

/// The size of a wrapped key, in bytes.
const WRAPPED_BYTES: usize = HEADER_BYTES + MAC_BYTES + KEY_BYTES + TAG_BYTES;

/// The text of `key`, wrapped by `master` and bound to its place.
///
/// # Errors
///
/// `InvalidInput` if the context is another key's.
pub(crate) fn wrap_key(
    master: &MasterKey,
    nonce: Nonce,
    context: &WrapContext,
    key: &DataKey,
) -> Result<String> {
    if (key.id(), key.organization()) != (context.data_key, context.organization) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("data key {} can't be wrapped in the place of data key {}", key.id(), context.data_key),
        ));
    }
    with_wiped_stack(|| wrap_bytes(master, nonce, context, key.bytes().expose()))
}

/// The data key in a stored text.
///
/// # Errors
///
/// `KeyUnavailable` if another master key has wrapped it; `Tampered` if it does not authenticate in this place;
/// `Malformed`; `Unsupported`.
pub(crate) fn unwrap_key(master: &MasterKey, context: &WrapContext, stored: &str) -> Result<DataKey> {
    with_wiped_stack(|| unwrap_bytes(master, context, stored))
        .map(|bytes| DataKey::new(context.data_key, context.organization, bytes))
        .map_err(|error| error.within(format_args!("wrapped data key {}", context.data_key)))
}

/// The id of the master key that wrapped `stored`, by its first characters.
///
/// # Errors
///
/// `Malformed`; `Unsupported`.
pub(crate) fn wrapping_key_of(stored: &str) -> Result<MasterKeyId> {
    text::key_id(stored, Purpose::DataKey).map(|id| Uuid::from_bytes(id).into())
}

/// ```text
/// header 44 | commitment 32 | ciphertext 32 | tag 16
/// ```
pub(super) fn wrap_bytes(
    master: &MasterKey,
    nonce: Nonce,
    context: &WrapContext,
    bytes: &[u8],
) -> Result<String> {
    let header = Header::new(Purpose::DataKey, master.id().as_bytes(), nonce);
    let associated_data = context.associated_data(&header);
    let keys = master.subkeys();
    let mut key = Zeroizing::new(bytes.to_vec());
    let tag = keys
        .aead
        .seal(&header.nonce(), &associated_data, &mut key)
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "the key is too large to wrap"))?;
    let mut wrapped = Vec::with_capacity(WRAPPED_BYTES);
    wrapped.extend_from_slice(header.as_bytes());
    wrapped.extend_from_slice(&keys.commit.mac(&[&associated_data]));
    wrapped.extend_from_slice(&key);
    wrapped.extend_from_slice(&tag);
    Ok(text::encode(&wrapped))
}

fn unwrap_bytes(master: &MasterKey, context: &WrapContext, stored: &str) -> Result<KeyBytes> {
    let mut wrapped = text::decode(stored, Purpose::DataKey)?;
    let (header, commitment, key, tag) =
        split(wrapped.expose_secret_mut()).ok_or_else(|| malformed("it is cut short"))?;
    let header = Header::from_bytes(*header);
    let wrapped_by = MasterKeyId::from(Uuid::from_bytes(header.key_id()));
    if wrapped_by != master.id() {
        return Err(Error::new(
            ErrorKind::KeyUnavailable,
            format!("it was wrapped by master key {wrapped_by}, and {} was given to unwrap it", master.id()),
        ));
    }
    let associated_data = context.associated_data(&header);
    let tampered = || {
        Error::new(
            ErrorKind::Tampered,
            format!("it does not authenticate under master key {wrapped_by} in this place"),
        )
    };
    let keys = master.subkeys();
    if !keys.commit.verify(&associated_data, commitment) {
        return Err(tampered());
    }
    keys.aead.open(&header.nonce(), &associated_data, key, tag).map_err(|_| tampered())?;
    KeyBytes::copy_of(key)
}

type Wrapped<'a> = (&'a [u8; HEADER_BYTES], &'a [u8; MAC_BYTES], &'a mut [u8], &'a [u8; TAG_BYTES]);

fn split(wrapped: &mut [u8]) -> Option<Wrapped<'_>> {
    let (header, rest) = wrapped.split_first_chunk_mut()?;
    let (commitment, rest) = rest.split_first_chunk_mut()?;
    let (key, tag) = rest.split_last_chunk_mut()?;
    Some((header, commitment, key, tag))
}
