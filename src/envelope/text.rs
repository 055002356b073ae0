//! The text form: `cv1.` and canonical base64url without padding.

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeSliceError, Engine};
use secrecy::{ExposeSecret, ExposeSecretMut, SecretSlice};

use super::header::{HEADER_BYTES, KEY_ID_END, require_supported};
use crate::crypto::memory::wiped_zeros;
use crate::crypto::subkeys::{MAC_BYTES, Purpose};
use crate::crypto::xaes::TAG_BYTES;
use crate::error::{Error, ErrorKind, Result};

/// What every stored value begins with; `.` is in no base64 alphabet, so no legacy value does.
pub(super) const PREFIX: &str = "cv1.";

/// The longest text that is read, in bytes: the format's bound, so that a hostile row can't make a reader take
/// more memory. The largest payload is chosen to stay within it.
pub(super) const MAX_TEXT_BYTES: usize = 1 << 20;

/// By the processor's vector instructions, where it has some that the crate knows.
#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
static URL_SAFE_NO_PAD: std::sync::LazyLock<base64::engine::Simd> =
    std::sync::LazyLock::new(|| base64::engine::Simd::url_safe(base64::engine::general_purpose::NO_PAD));
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Characters that are looked at to tell a legacy value from no value of any kind, at most.
const SAMPLE_CHARS: usize = 64;

/// The size of the commitment between header and ciphertext, in bytes.
pub(super) const fn commitment_bytes(purpose: Purpose) -> usize {
    match purpose {
        Purpose::Row => 0,
        Purpose::DataKey => MAC_BYTES,
    }
}

/// The text of a sealed value.
#[expect(
    clippy::expect_used,
    reason = "four characters of ASCII stand for three bytes, and there is room for all"
)]
pub(super) fn encode(sealed: &[u8]) -> String {
    let bytes = PREFIX.len() + (sealed.len() * 4).div_ceil(3);
    let mut text = Vec::with_capacity(bytes);
    text.extend_from_slice(PREFIX.as_bytes());
    text.resize(bytes, 0);
    URL_SAFE_NO_PAD.encode_slice(sealed, &mut text[PREFIX.len()..]).expect("there is room");
    String::from_utf8(text).expect("it is ASCII")
}

/// The bytes of a stored text, in memory that is wiped when dropped, since they are opened in place.
///
/// # Errors
///
/// `Malformed` if the text is not canonical or too short; `Unsupported` for another header.
pub(super) fn decode(text: &str, purpose: Purpose) -> Result<SecretSlice<u8>> {
    let body = body_of(text, purpose)?;
    let bytes = body.len() / 4 * 3 + body.len() % 4 * 3 / 4;
    let sealed = decode_exactly(bytes, |to| URL_SAFE_NO_PAD.decode_slice(body, to))?;
    require_supported(sealed.expose_secret(), purpose)?;
    Ok(sealed)
}

/// The bytes of a legacy text: standard base64 with padding, in memory that is wiped when dropped.
///
/// # Errors
///
/// `Malformed` if the text is not canonical or too long.
pub(super) fn decode_legacy(text: &str) -> Result<SecretSlice<u8>> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(malformed("the stored legacy value is longer than 1 MiB"));
    }
    let padding = text.bytes().rev().take(2).take_while(|&c| c == b'=').count();
    let bytes = (text.len() / 4 * 3).saturating_sub(padding);
    decode_exactly(bytes, |to| STANDARD.decode_slice(text, to))
}

/// The 16 bytes of the key id in the header, read from the text's first characters only.
///
/// # Errors
///
/// `Malformed`, `Unsupported` as for [`decode`], as far as those characters show it.
pub(super) fn key_id(text: &str, purpose: Purpose) -> Result<[u8; 16]> {
    // 28 characters hold 21 bytes: all through the key's id, without a remainder.
    let leading = body_of(text, purpose)?.as_bytes().get(..28).ok_or_else(not_canonical)?;
    let mut bytes = [0; 21];
    URL_SAFE_NO_PAD.decode_slice(leading, &mut bytes).map_err(|_| not_canonical())?;
    require_supported(&bytes, purpose)?;
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[4..KEY_ID_END]);
    Ok(id)
}

/// The 16 bytes of the key id in the header, of a text of which only the first 31 characters are known.
pub(super) fn key_id_of_beginning(beginning: &str) -> Option<[u8; 16]> {
    // The last of them holds two more bits, of the nonce.
    let leading = format!("{}A", beginning.strip_prefix(PREFIX)?.get(..27)?);
    let mut bytes = [0; 21];
    URL_SAFE_NO_PAD.decode_slice(leading, &mut bytes).ok()?;
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[4..KEY_ID_END]);
    Some(id)
}

/// Whether the text can be a legacy value, by its first characters.
pub(super) fn looks_like_legacy(text: &str) -> bool {
    let base64 = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'=');
    !text.is_empty() && text.bytes().take(SAMPLE_CHARS).all(base64)
}

pub(super) fn malformed(message: &'static str) -> Error {
    Error::new(ErrorKind::Malformed, message)
}

/// The base64 of a text whose length is within bounds.
fn body_of(text: &str, purpose: Purpose) -> Result<&str> {
    let fewest = HEADER_BYTES + commitment_bytes(purpose) + TAG_BYTES;
    let body =
        text.strip_prefix(PREFIX).ok_or_else(|| malformed("the stored value does not begin with `cv1.`"))?;
    if text.len() > MAX_TEXT_BYTES {
        return Err(malformed("the stored value is longer than 1 MiB"));
    }
    if body.len() < base64::encoded_len(fewest, false).unwrap_or(usize::MAX) {
        return Err(malformed("the stored value is cut short"));
    }
    Ok(body)
}

/// What `decode` writes to memory of exactly the size that a canonical text of this length has.
fn decode_exactly(
    bytes: usize,
    decode: impl FnOnce(&mut [u8]) -> std::result::Result<usize, DecodeSliceError>,
) -> Result<SecretSlice<u8>> {
    let mut decoded = wiped_zeros(bytes);
    match decode(decoded.expose_secret_mut()) {
        Ok(count) if count == bytes => Ok(decoded),
        _ => Err(not_canonical()),
    }
}

fn not_canonical() -> Error {
    malformed("the stored value is not canonical base64")
}
