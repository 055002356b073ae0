//! The bytes of any key, before it is known which.

use std::fmt;

use super::locked::Locked;
use super::random;
use crate::error::{Error, ErrorKind, Result};

/// The size of every key, in bytes.
pub const KEY_BYTES: usize = 32;

/// The bytes of a key: wiped when dropped, neither cloned nor shown, and kept from swap and core dumps where the system
/// allows it.
pub struct KeyBytes(Locked<[u8; KEY_BYTES]>);

impl KeyBytes {
    /// A fresh key from the operating system's generator.
    ///
    /// # Errors
    ///
    /// `Provider` if the generator fails.
    pub fn generate() -> Result<Self> {
        let mut key = Self::zeros();
        random::fill(key.expose_mut())?;
        Ok(key)
    }

    /// A copy of `bytes`, which the caller wipes.
    ///
    /// # Errors
    ///
    /// `Malformed` unless there are [`KEY_BYTES`] of them.
    pub fn copy_of(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != KEY_BYTES {
            return Err(Error::new(ErrorKind::Malformed, format!("a key has {KEY_BYTES} bytes")));
        }
        let mut key = Self::zeros();
        key.expose_mut().copy_from_slice(bytes);
        Ok(key)
    }

    /// A key that `fill` writes in place.
    pub(crate) fn zeros() -> Self {
        Self(Locked::new([0; KEY_BYTES]))
    }

    /// The one way to the bytes: for a provider that hands them to its key service. Copies are the caller's to wipe.
    #[must_use]
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The one way to write them.
    pub(crate) fn expose_mut(&mut self) -> &mut [u8; KEY_BYTES] {
        &mut self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}
