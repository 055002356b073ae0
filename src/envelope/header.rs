//! The first 44 bytes of every stored value.

use super::nonce::Nonce;
use crate::crypto::subkeys::Purpose;
use crate::crypto::xaes::NONCE_BYTES;
use crate::error::{Error, ErrorKind, Result};

/// The size of a header, in bytes.
pub(super) const HEADER_BYTES: usize = 44;

/// The size of what the header begins with, through the key's id, in bytes.
pub(super) const KEY_ID_END: usize = 20;

/// The version of the stored format.
const FORMAT: u8 = 1;

/// No flag is defined.
const FLAGS: u8 = 0;

/// ```text
/// 0        1       2        3       4            20      44
/// | format | suite | object | flags | id of key  | nonce |
/// ```
#[derive(Clone, Copy)]
pub(super) struct Header([u8; HEADER_BYTES]);

impl Header {
    /// The header of a new value.
    pub(super) fn new(purpose: Purpose, key_id: &[u8; 16], nonce: Nonce) -> Self {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&leading(purpose));
        bytes[4..KEY_ID_END].copy_from_slice(key_id);
        bytes[KEY_ID_END..].copy_from_slice(&nonce.into_bytes());
        Self(bytes)
    }

    /// The header of a stored value whose beginning was [checked](require_supported).
    pub(super) fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8; HEADER_BYTES] {
        &self.0
    }

    pub(super) fn key_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[4..KEY_ID_END]);
        id
    }

    pub(super) fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&self.0[KEY_ID_END..]);
        nonce
    }
}

/// The four bytes before the key's id: each object accepts its one suite only.
const fn leading(purpose: Purpose) -> [u8; 4] {
    [FORMAT, purpose.suite(), purpose.object(), FLAGS]
}

/// Refuses a value that is of another version, suite or object, or has a flag.
///
/// # Errors
///
/// `Unsupported`.
pub(super) fn require_supported(bytes: &[u8], purpose: Purpose) -> Result<()> {
    if bytes.starts_with(&leading(purpose)) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        "the stored value's header is of another format, suite or object than this version reads here",
    ))
}
