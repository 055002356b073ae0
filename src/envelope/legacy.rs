//! Values of the service that used the table before: they open, nothing is sealed like them.

use zeroize::Zeroizing;

use super::text::{self, malformed};
use crate::clock::Timestamp;
use crate::credential::{Credential, CredentialType};
use crate::crypto::xaes::GcmKey;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::SecretText;

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
    let (nonce, rest) = value.split_first_chunk_mut().ok_or_else(cut_short)?;
    let (plaintext, tag) = rest.split_last_chunk_mut().ok_or_else(cut_short)?;
    key.open(nonce, b"", plaintext, tag)
        .map_err(|_| Error::new(ErrorKind::Tampered, "it does not authenticate under the legacy key"))?;
    let json = std::str::from_utf8(plaintext).map_err(|_| malformed("the legacy JSON is not UTF-8"))?;
    let credential = Credential::new(credential_type).with_expiry(expiry.map(Timestamp::to_offset_date_time));
    read_object(json, credential)
}

/// Adds the members of a JSON object string → string (RFC 8259) to `credential`.
///
/// A reader of our own, since others leave copies of escaped strings in freed memory, keep the last of two equal
/// names, or replace what is not Unicode: here each value is unescaped into memory that is wiped, and all
/// of that is malformed.
fn read_object(json: &str, mut credential: Credential) -> Result<Credential> {
    let mut reader = Reader::new(json);
    reader.expect('{')?;
    if !reader.skip('}') {
        loop {
            let name = std::mem::take(&mut *reader.string()?);
            reader.expect(':')?;
            let value = SecretText::from(reader.string()?);
            if credential.field(&name).is_some() {
                return Err(malformed("the legacy JSON has a name twice"));
            }
            credential = credential.with_field(name, value);
            if !reader.skip(',') {
                break;
            }
        }
        reader.expect('}')?;
    }
    reader.end()?;
    Ok(credential)
}

/// Reads JSON from the front of a text.
struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn new(json: &'a str) -> Self {
        Self { rest: json }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Whether `token` comes next; then it is taken.
    fn skip(&mut self, token: char) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, token: char) -> Result<()> {
        if self.skip(token) { Ok(()) } else { Err(not_json()) }
    }

    fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.rest.is_empty() { Ok(()) } else { Err(not_json()) }
    }

    /// A string, unescaped.
    fn string(&mut self) -> Result<Zeroizing<String>> {
        self.expect('"')?;
        let end = closing_quote(self.rest).ok_or_else(not_json)?;
        let (raw, rest) = self.rest.split_at_checked(end).ok_or_else(not_json)?;
        self.rest = rest;
        self.expect('"')?;
        // No escape is shorter than what it stands for: the text never outgrows its memory, which would leave a
        // copy behind.
        let mut text = Zeroizing::new(String::with_capacity(raw.len()));
        let mut raw = raw;
        while let Some(next) = raw.find('\\') {
            let (plain, escape) = raw.split_at_checked(next).ok_or_else(not_json)?;
            push_plain(&mut text, plain)?;
            let (character, rest) = unescape(escape).ok_or_else(not_json)?;
            text.push(character);
            raw = rest;
        }
        push_plain(&mut text, raw)?;
        Ok(text)
    }
}

/// Where the string ends that `rest` begins in.
fn closing_quote(rest: &str) -> Option<usize> {
    let mut escaped = false;
    rest.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

/// Appends text without escapes, in which JSON allows no control characters.
fn push_plain(text: &mut String, plain: &str) -> Result<()> {
    if plain.bytes().any(|byte| byte < 0x20) {
        return Err(not_json());
    }
    text.push_str(plain);
    Ok(())
}

/// The character of the escape that `escape` begins with, and what follows it.
fn unescape(escape: &str) -> Option<(char, &str)> {
    let rest = escape.strip_prefix('\\')?;
    let kind = rest.chars().next()?;
    let rest = rest.strip_prefix(kind)?;
    let character = match kind {
        '"' | '\\' | '/' => kind,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => return unescape_utf16(rest),
        _ => return None,
    };
    Some((character, rest))
}

/// The character of one code unit of UTF-16, or of a pair of surrogates; a surrogate by itself is none.
fn unescape_utf16(rest: &str) -> Option<(char, &str)> {
    let (first, rest) = code_unit(rest)?;
    if let Some(character) = char::from_u32(u32::from(first)) {
        return Some((character, rest));
    }
    let (second, rest) = code_unit(rest.strip_prefix("\\u")?)?;
    let character = char::decode_utf16([first, second]).next()?.ok()?;
    Some((character, rest))
}

/// Four hexadecimal digits, which `from_str_radix` alone would let a sign stand among.
fn code_unit(rest: &str) -> Option<(u16, &str)> {
    let (digits, rest) = rest.split_at_checked(4)?;
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

fn not_json() -> Error {
    malformed("the legacy value is no JSON object of strings")
}

fn cut_short() -> Error {
    malformed("the stored legacy value is cut short")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::error::ErrorKind;

    fn read(json: &str) -> Result<Vec<(String, String)>> {
        let credential = read_object(json, Credential::new(CredentialType::token()))?;
        let text = |(name, value): (&str, &SecretText)| (name.to_owned(), value.expose_secret().to_owned());
        Ok(credential.fields().map(text).collect())
    }

    #[test]
    fn every_escape_of_json_is_read() {
        let escapes = r#"{"k":"\"\\\/\b\f\n\r\t\u0000\u003c\u00E9\u2028\ud83d\ude00\uDBFF\uDFFF\uffff"}"#;
        let expected = "\"\\/\u{8}\u{c}\n\r\t\0<é\u{2028}😀\u{10ffff}\u{ffff}";
        assert_eq!(read(escapes).unwrap(), [("k".to_owned(), expected.to_owned())]);
        assert_eq!(read(r#"{"\u006b":"\\"}"#).unwrap(), [("k".to_owned(), "\\".to_owned())]);
    }

    #[test]
    fn space_between_tokens_is_allowed() {
        assert_eq!(read(" {\r\n} ").unwrap(), []);
        assert_eq!(read("\t{ \"a\" : \"1\" ,\n\"b\":\"2\" }\n").unwrap().len(), 2);
    }

    #[test]
    fn anything_but_one_object_of_strings_is_malformed() {
        for json in [
            "",
            " ",
            "null",
            "\"k\"",
            "[]",
            "{",
            "}",
            "{}{}",
            "{} x",
            "\u{feff}{}",
            "\u{a0}{}",
            r#"{,}"#,
            r#"{"k"}"#,
            r#"{"k":}"#,
            r#"{"k":"v",}"#,
            r#"{"k":"v" "l":"w"}"#,
            r#"{"k":"v""#,
            r#"{"k":"v}"#,
            r#"{"k":"v\"}"#,
            r#"{k:"v"}"#,
            r#"{'k':'v'}"#,
            r#"{"k":1}"#,
            r#"{"k":null}"#,
            r#"{"k":true}"#,
            r#"{"k":["v"]}"#,
            r#"{"k":{}}"#,
            r#"{"k":"v","k":"v"}"#,
            r#"{"k":"v","\u006b":"w"}"#,
            r#"{"k":"\x"}"#,
            r#"{"k":"\é"}"#,
            r#"{"k":"\u12"}"#,
            r#"{"k":"\u+123"}"#,
            r#"{"k":"\u12é"}"#,
            r#"{"k":"\ud83d"}"#,
            r#"{"k":"\ud83dx"}"#,
            r#"{"k":"\ud83d\n"}"#,
            r#"{"k":"\ud83d\u0041"}"#,
            r#"{"k":"\ud83d\ud83d"}"#,
            r#"{"k":"\ude00"}"#,
            r#"{"k":"\U0041"}"#,
            "{\"k\":\"a\nb\"}",
            "{\"k\":\"a\0b\"}",
            "{\"k\u{1f}\":\"\"}",
        ] {
            assert_eq!(read(json).unwrap_err().kind(), ErrorKind::Malformed, "{json}");
        }
    }

    #[test]
    fn a_string_never_outgrows_its_memory() {
        for raw in [r"\\", r"\n", r"\u0041", r"\u00e9", r"\uffff", r"\ud83d\ude00"] {
            assert!(unescape(raw).unwrap().0.len_utf8() <= raw.len(), "{raw}");
        }
    }
}
