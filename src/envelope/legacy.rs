//! Values of the service that used the table before: they open, nothing is sealed like them.

use secrecy::ExposeSecretMut;

use super::text::{self, malformed};
use crate::clock::Timestamp;
use crate::credential::{Credential, CredentialType};
use crate::crypto::xaes::GcmKey;
use crate::error::{Error, ErrorKind, Result};
use crate::json;

/// The credential in a legacy text, whose expiry is its column's.
///
/// ```text
/// base64( nonce 12 | ciphertext | tag 16 )
/// ```
///
/// # Errors
///
/// `Tampered` if it does not authenticate, or is no legacy value; `Malformed`.
pub(super) fn open(
    key: &GcmKey,
    stored: &str,
    credential_type: CredentialType,
    expiry: Option<Timestamp>,
) -> Result<Credential> {
    if stored.starts_with(text::PREFIX) {
        return Err(Error::new(
            ErrorKind::Tampered,
            "a value of a data key stands under the legacy key id `v1`",
        ));
    }
    let mut value = text::decode_legacy(stored)?;
    let (nonce, rest) = value.expose_secret_mut().split_first_chunk_mut().ok_or_else(cut_short)?;
    let (plaintext, tag) = rest.split_last_chunk_mut().ok_or_else(cut_short)?;
    key.open(nonce, b"", plaintext, tag)
        .map_err(|_| Error::new(ErrorKind::Tampered, "it does not authenticate under the legacy key"))?;
    let text = std::str::from_utf8(plaintext).map_err(|_| malformed("the legacy JSON is not UTF-8"))?;
    let members =
        json::read_object(text).map_err(|_| malformed("the legacy value is no JSON object of strings"))?;
    let credential = Credential::new(credential_type).with_expiry(expiry.map(Timestamp::to_offset_date_time));
    Ok(members.into_iter().fold(credential, |credential, (name, value)| credential.with_field(name, value)))
}

fn cut_short() -> Error {
    malformed("the stored legacy value is cut short")
}
