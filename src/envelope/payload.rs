//! What is encrypted in a row: fields and expiry, padded so that its length tells little.

use std::mem::size_of;

use secrecy::ExposeSecret;

use super::text::malformed;
use crate::clock::Timestamp;
use crate::credential::{Credential, CredentialType, MAX_FIELDS, MAX_NAME_BYTES, MAX_VALUE_BYTES};
use crate::crypto::memory::write;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::SecretText;

/// The version of the payload.
const VERSION: u8 = 1;

/// The smallest padded payload, in bytes: every token of 100 characters or so looks the same.
const MIN_BUCKET_BYTES: usize = 128;

/// The largest padded payload, in bytes: the largest bucket whose text stays within 1 MiB.
const MAX_PAYLOAD_BYTES: usize = 770_048;

/// Version, flag, expiry and count.
const HEAD_BYTES: usize = 1 + 1 + size_of::<i64>() + size_of::<u16>();

/// The two lengths of a field.
const FIELD_BYTES: usize = size_of::<u16>() + size_of::<u32>();

/// A credential that can be sealed, with the size of its payload.
///
/// ```text
/// u8 1 | u8 has_expiry | i64be expires_at µs | u16be count | count × (u16be, name, u32be, value) | zeros
/// ```
pub(super) struct Payload<'a> {
    credential: &'a Credential,
    expiry: Option<Timestamp>,
    padded_bytes: usize,
}

impl<'a> Payload<'a> {
    /// The payload of `credential`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` beyond a documented limit.
    pub(super) fn of(credential: &'a Credential) -> Result<Self> {
        let expiry = credential.expiry()?;
        if credential.fields().len() > MAX_FIELDS {
            return Err(too_large(format!("a credential has at most {MAX_FIELDS} fields")));
        }
        let mut bytes = HEAD_BYTES;
        for (name, value) in credential.fields() {
            if name.len() > MAX_NAME_BYTES {
                return Err(too_large(format!("a field's name has at most {MAX_NAME_BYTES} bytes")));
            }
            if value.len() > MAX_VALUE_BYTES {
                return Err(too_large(format!("a field's value has at most {MAX_VALUE_BYTES} bytes")));
            }
            bytes += FIELD_BYTES + name.len() + value.len();
        }
        let padded_bytes = padme(bytes);
        if padded_bytes > MAX_PAYLOAD_BYTES {
            return Err(too_large(format!(
                "all names and values of a credential, with {FIELD_BYTES} bytes for each field, have at most {} bytes",
                MAX_PAYLOAD_BYTES - HEAD_BYTES
            )));
        }
        Ok(Self { credential, expiry, padded_bytes })
    }

    /// The size of the payload, in bytes.
    pub(super) fn padded_bytes(&self) -> usize {
        self.padded_bytes
    }

    /// Writes the payload to `buffer`, which has its size and holds zeros.
    pub(super) fn write_to(&self, buffer: &mut [u8]) {
        debug_assert_eq!(buffer.len(), self.padded_bytes);
        let flags = [VERSION, u8::from(self.expiry.is_some())];
        let rest = write(buffer, &flags);
        let rest = write(rest, &self.expiry.map_or(0, Timestamp::as_microseconds).to_be_bytes());
        // All that is counted here fits: `of` has compared it with the limits.
        let mut rest = write(rest, &(self.credential.fields().len() as u16).to_be_bytes());
        for (name, value) in self.credential.fields() {
            rest = write(rest, &(name.len() as u16).to_be_bytes());
            rest = write(rest, name.as_bytes());
            rest = write(rest, &(value.len() as u32).to_be_bytes());
            rest = write(rest, value.expose_secret().as_bytes());
        }
    }
}

/// The credential in a payload.
///
/// # Errors
///
/// `Malformed` unless it is exactly what [`Payload::write_to`] writes.
pub(super) fn decode(payload: &[u8], credential_type: CredentialType) -> Result<Credential> {
    let mut credential = Credential::new(credential_type);
    let expiry =
        walk(payload, |name, value| credential.set_field(name.to_owned(), SecretText::copy_of(value)))?;
    Ok(credential.with_expiry(expiry.map(Timestamp::to_offset_date_time)))
}

/// Refuses what [`decode`] refuses, without making a credential of it.
///
/// # Errors
///
/// `Malformed`.
pub(super) fn validate(payload: &[u8]) -> Result<()> {
    walk(payload, |_, _| ()).map(|_| ())
}

/// Reads a payload, gives each field to `each`, and the expiry back.
fn walk<'a>(payload: &'a [u8], mut each: impl FnMut(&'a str, &'a str)) -> Result<Option<Timestamp>> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(malformed("the payload is too large"));
    }
    let mut rest = payload;
    let [version] = take(&mut rest)?;
    let [has_expiry] = take(&mut rest)?;
    let microseconds = i64::from_be_bytes(take(&mut rest)?);
    let expiry = match (version, has_expiry, microseconds) {
        (VERSION, 0, 0) => None,
        (VERSION, 1, _) => {
            let expiry = Timestamp::from_microseconds(microseconds);
            Some(expiry.ok_or_else(|| malformed("the payload's expiry is out of range"))?)
        }
        _ => return Err(malformed("the payload's head is of no known form")),
    };
    let count = u16::from_be_bytes(take(&mut rest)?);
    let mut last = None;
    for _ in 0..count {
        let length = u16::from_be_bytes(take(&mut rest)?);
        let name = take_text(&mut rest, usize::from(length))?;
        let length = u32::from_be_bytes(take(&mut rest)?);
        let value = take_text(&mut rest, usize::try_from(length).unwrap_or(usize::MAX))?;
        if last.is_some_and(|last| name <= last) {
            return Err(malformed("the payload's names are not strictly ascending"));
        }
        last = Some(name);
        each(name, value);
    }
    if payload.len() != padme(payload.len() - rest.len()) || rest.iter().any(|&byte| byte != 0) {
        return Err(malformed("the payload's padding is wrong"));
    }
    Ok(expiry)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let (taken, left) = rest.split_first_chunk().ok_or_else(cut_short)?;
    *rest = left;
    Ok(*taken)
}

fn take_text<'a>(rest: &mut &'a [u8], bytes: usize) -> Result<&'a str> {
    let (taken, left) = rest.split_at_checked(bytes).ok_or_else(cut_short)?;
    *rest = left;
    std::str::from_utf8(taken).map_err(|_| malformed("the payload holds a text that is not UTF-8"))
}

fn cut_short() -> Error {
    malformed("the payload is cut short")
}

fn too_large(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// The Padmé bucket of `bytes`, which grows by at most 12 %, and by less the larger it is
/// (<https://petsymposium.org/popets/2019/popets-2019-0056.php>).
pub(super) fn padme(bytes: usize) -> usize {
    if bytes <= MIN_BUCKET_BYTES {
        return MIN_BUCKET_BYTES;
    }
    let exponent = bytes.ilog2();
    let bits_of_exponent = exponent.ilog2() + 1;
    let low = (1 << (exponent - bits_of_exponent)) - 1;
    (bytes + low) & !low
}
