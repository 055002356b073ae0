//! The operating system's random generator, the only source of keys and nonces.

use crate::error::{Error, ErrorKind, Result};

/// Fills `bytes` in one call of the generator.
///
/// # Errors
///
/// `Provider` if the generator fails.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| {
        Error::new(ErrorKind::Provider, "the operating system's random generator failed").with_source(error)
    })
}
