//! What is stored, read and written again: what the property tests and fuzz targets compare.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;

use super::payload::{self, Payload};
use super::text;
use crate::credential::CredentialType;
use crate::crypto::subkeys::Purpose;
use crate::error::Result;

/// A row's text.
///
/// # Errors
///
/// As reading it.
pub(crate) fn row_again(stored: &str) -> Result<String> {
    text::decode(stored, Purpose::Row).map(|row| text::encode(row.expose_secret()))
}

/// A wrapped key's text.
///
/// # Errors
///
/// As reading it.
pub(crate) fn wrapped_key_again(stored: &str) -> Result<String> {
    text::decode(stored, Purpose::DataKey).map(|wrapped| text::encode(wrapped.expose_secret()))
}

/// A legacy row's text.
///
/// # Errors
///
/// As reading it.
pub(crate) fn legacy_row_again(stored: &str) -> Result<String> {
    text::decode_legacy(stored).map(|row| STANDARD.encode(row.expose_secret()))
}

/// A row's payload; empty, which no payload is, if what was read can't be written.
///
/// # Errors
///
/// As reading it.
pub(crate) fn payload_again(bytes: &[u8]) -> Result<Vec<u8>> {
    let credential = payload::decode(bytes, CredentialType::token())?;
    Ok(Payload::of(&credential).map_or_else(
        |_| Vec::new(),
        |payload| {
            let mut again = vec![0; payload.padded_bytes()];
            payload.write_to(&mut again);
            again
        },
    ))
}

/// The size of a payload that holds so many bytes.
#[cfg(test)]
pub(crate) fn padded_bytes(bytes: usize) -> usize {
    payload::padme(bytes)
}
