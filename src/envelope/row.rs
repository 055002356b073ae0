//! Credential rows: seal, open, re-encrypt.

use secrecy::{ExposeSecret, ExposeSecretMut, SecretSlice};

use super::context::RowContext;
use super::header::{HEADER_BYTES, Header};
use super::legacy;
use super::nonce::Nonce;
use super::payload::{self, Payload};
use super::text::{self, looks_like_legacy, malformed};
use crate::clock::Timestamp;
use crate::credential::{Credential, CredentialType};
use crate::crypto::key::{OpeningKey, RowCipher, SealingKey};
use crate::crypto::memory::{wiped_zeros, with_wiped_stack};
use crate::crypto::subkeys::Purpose;
use crate::crypto::xaes::{TAG_BYTES, XaesKey};
use crate::error::{Error, ErrorKind, Result};
use crate::id::DataKeyId;

/// The text of `credential`, sealed to its place.
///
/// # Errors
///
/// `InvalidInput` beyond a documented limit, before anything is sealed.
pub(crate) fn seal_credential(
    key: &SealingKey,
    nonce: Nonce,
    context: &RowContext<'_>,
    credential: &Credential,
) -> Result<String> {
    with_wiped_stack(|| {
        let payload = Payload::of(credential)?;
        let mut row = wiped_zeros(HEADER_BYTES + payload.padded_bytes() + TAG_BYTES);
        payload.write_to(parts(row.expose_secret_mut())?.payload);
        seal_in_place(key, nonce, context, row)
    })
    .map_err(|error| of_row(context, error))
}

/// The credential in a stored text. `column_expiry` is the expiry of a legacy value, which has none inside.
///
/// # Errors
///
/// `KeyUnavailable` if another key has sealed it; `Tampered` if it does not authenticate in this place;
/// `Malformed`; `Unsupported`.
pub(crate) fn open_credential(
    key: &OpeningKey,
    context: &RowContext<'_>,
    stored: &str,
    column_expiry: Option<Timestamp>,
) -> Result<Credential> {
    let credential_type = || CredentialType::from_stored(context.credential_type.to_owned());
    with_wiped_stack(|| match key.cipher() {
        RowCipher::Cv1(cipher) => {
            let mut row = opened(cipher, key.id(), context, stored)?;
            payload::decode(parts(row.expose_secret_mut())?.payload, credential_type())
        }
        RowCipher::Legacy(cipher) => legacy::open(cipher, stored, credential_type(), column_expiry),
    })
    .map_err(|error| of_row(context, error))
}

/// The text of the same credential under the key `to`, in the same place.
///
/// # Errors
///
/// As [`open_credential`]; `InvalidInput` for a legacy value beyond the limits of new ones.
pub(crate) fn reencrypt(
    from: &OpeningKey,
    to: &SealingKey,
    nonce: Nonce,
    context: &RowContext<'_>,
    stored: &str,
    column_expiry: Option<Timestamp>,
) -> Result<String> {
    let RowCipher::Cv1(cipher) = from.cipher() else {
        let credential = open_credential(from, context, stored, column_expiry)?;
        return seal_credential(to, nonce, context, &credential);
    };
    with_wiped_stack(|| {
        // The payload is sealed again where it was opened: the same bytes, so the same bucket.
        let mut row = opened(cipher, from.id(), context, stored)?;
        payload::validate(parts(row.expose_secret_mut())?.payload)?;
        seal_in_place(to, nonce, context, row)
    })
    .map_err(|error| of_row(context, error))
}

/// The id of the key that sealed `stored`, by its first characters, which the column `encryption_key_id` must
/// name, too.
///
/// # Errors
///
/// `Tampered` where the column names another key; `Malformed`; `Unsupported`.
pub(crate) fn key_of(stored: &str, key_id_column: &str) -> Result<DataKeyId> {
    let under_legacy_key = key_id_column == "v1";
    if !stored.starts_with(text::PREFIX) {
        return if under_legacy_key { Ok(DataKeyId::LEGACY) } else { Err(not_cv1(stored)) };
    }
    if under_legacy_key {
        return Err(column_differs());
    }
    let id = DataKeyId::from_bytes(text::key_id(stored, Purpose::Row)?);
    if id.is_spelled(key_id_column) { Ok(id) } else { Err(column_differs()) }
}

/// The id of the key that a stored text's first 31 characters name; `None` if they name none.
pub(crate) fn key_of_beginning(beginning: &str) -> Option<DataKeyId> {
    text::key_id_of_beginning(beginning).map(DataKeyId::from_bytes)
}

/// A row in the bytes that it is stored as.
///
/// ```text
/// header 44 | payload n | tag 16
/// ```
struct Parts<'a> {
    header: &'a mut [u8; HEADER_BYTES],
    payload: &'a mut [u8],
    tag: &'a mut [u8; TAG_BYTES],
}

fn parts(row: &mut [u8]) -> Result<Parts<'_>> {
    row.split_first_chunk_mut()
        .and_then(|(header, rest)| {
            let (payload, tag) = rest.split_last_chunk_mut()?;
            Some(Parts { header, payload, tag })
        })
        .ok_or_else(|| malformed("the stored value is cut short"))
}

/// The bytes of a stored text, with the payload in the clear.
fn opened(
    cipher: &XaesKey,
    key_id: DataKeyId,
    context: &RowContext<'_>,
    stored: &str,
) -> Result<SecretSlice<u8>> {
    if !stored.starts_with(text::PREFIX) {
        return Err(not_cv1(stored));
    }
    let mut row = text::decode(stored, Purpose::Row)?;
    let Parts { header, payload, tag } = parts(row.expose_secret_mut())?;
    let header = Header::from_bytes(*header);
    let sealed_by = DataKeyId::from_bytes(header.key_id());
    if sealed_by != key_id {
        return Err(Error::new(
            ErrorKind::KeyUnavailable,
            format!("it was sealed by data key {sealed_by}, and {key_id} was given to open it"),
        ));
    }
    let opened = context.with_associated_data(&header, |associated_data| {
        cipher.open(&header.nonce(), associated_data, payload, tag)
    });
    opened.map_err(|_| {
        Error::new(
            ErrorKind::Tampered,
            format!("it does not authenticate under data key {key_id} in this place"),
        )
    })?;
    Ok(row)
}

/// The text of `row`, whose payload stands in the clear, sealed where it stands.
fn seal_in_place(
    key: &SealingKey,
    nonce: Nonce,
    context: &RowContext<'_>,
    mut row: SecretSlice<u8>,
) -> Result<String> {
    let sealed = Header::new(Purpose::Row, key.id().as_bytes(), nonce);
    let Parts { header, payload, tag } = parts(row.expose_secret_mut())?;
    *header = *sealed.as_bytes();
    *tag = context
        .with_associated_data(&sealed, |associated_data| {
            key.cipher().seal(&sealed.nonce(), associated_data, payload)
        })
        .map_err(|_| Error::new(ErrorKind::InvalidInput, "the credential is too large to seal"))?;
    Ok(text::encode(row.expose_secret()))
}

/// Why a value without the prefix can't be a row of a data key.
fn not_cv1(stored: &str) -> Error {
    if looks_like_legacy(stored) {
        return Error::new(ErrorKind::Tampered, "a legacy value stands under another key id than `v1`");
    }
    malformed("the stored value does not begin with `cv1.`")
}

fn column_differs() -> Error {
    Error::new(
        ErrorKind::Tampered,
        "the column encryption_key_id names another key than the stored value's header",
    )
}

fn of_row(context: &RowContext<'_>, error: Error) -> Error {
    error.within(format_args!("credential of integration {}", context.integration))
}
