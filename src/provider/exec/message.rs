//! What a program is asked, and what it answers: one JSON object each, by way of wiped memory alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::super::{MAX_RECORD_BYTES, ProviderContext, ProviderRecord};
use crate::crypto::key_bytes::{KEY_BYTES, KeyBytes};
use crate::error::{Error, ErrorKind, Result};
use crate::json::{self, Value};

/// The version of the protocol, in each request and reply.
const VERSION: u64 = 1;

/// The most bytes of a reply: a record, and what stands around it. A record that needs escapes has less room.
pub(super) const MAX_REPLY_BYTES: usize = MAX_RECORD_BYTES + 4_096;

/// The characters of a program's message that an error repeats.
const SHOWN_CHARS: usize = 200;

/// From so many characters of base64 or hex on, a word may be a key: 43 are one in base64, and a UUID has 36.
const SUSPECT_CHARS: usize = 40;

/// A key of [`KEY_BYTES`] in base64 with its padding, in characters.
const KEY_CHARS: usize = KEY_BYTES.div_ceil(3) * 4;

pub(super) enum Operation<'a> {
    Wrap(&'a KeyBytes),
    Unwrap(&'a ProviderRecord),
}

pub(super) enum Reply {
    Record(ProviderRecord),
    Key(KeyBytes),
    /// What the program says went wrong.
    Failed(Error),
}

/// The request for `operation`, one line.
///
/// # Errors
///
/// `Provider` if the key can't be written, which doesn't happen.
pub(super) fn request(operation: &Operation<'_>, context: &ProviderContext) -> Result<Zeroizing<String>> {
    let organization = context.organization_id.map_or("null".to_owned(), |id| format!("\"{id}\""));
    let (name, member, bytes) = match operation {
        Operation::Wrap(_) => ("wrap", "key", 2 + KEY_CHARS),
        Operation::Unwrap(record) => ("unwrap", "record", json::string_bytes(record.as_str())),
    };
    let beginning = format!(
        "{{\"version\":{VERSION},\"operation\":\"{name}\",\"vault\":\"{}\",\"master_key\":\"{}\",\
         \"organization\":{organization},\"associated_data\":\"{}\",\"{member}\":",
        context.vault_id,
        context.master_key_id,
        STANDARD.encode(context.associated_data()),
    );
    // Of its whole length, so that it never moves and leaves a copy behind.
    let mut request = Zeroizing::new(String::with_capacity(beginning.len() + bytes + 2));
    request.push_str(&beginning);
    match operation {
        Operation::Wrap(key) => {
            let mut text = Zeroizing::new([0; KEY_CHARS]);
            let text = STANDARD
                .encode_slice(key.expose(), text.as_mut_slice())
                .ok()
                .and_then(|length| text.get(..length))
                .and_then(|text| std::str::from_utf8(text).ok())
                .ok_or_else(|| Error::new(ErrorKind::Provider, "the key has no base64"))?;
            json::push_string(&mut request, text);
        }
        Operation::Unwrap(record) => json::push_string(&mut request, record.as_str()),
    }
    request.push_str("}\n");
    Ok(request)
}

/// The reply in `bytes`.
///
/// # Errors
///
/// `Malformed` if it is none of this version; nothing of it is repeated, not even a name, which may be a secret.
pub(super) fn reply(bytes: &[u8]) -> Result<Reply> {
    let malformed =
        || Error::new(ErrorKind::Malformed, "the answer is no reply of version 1 of the protocol");
    let text = std::str::from_utf8(bytes).map_err(|_| malformed())?;
    let mut members = json::read_record(text).map_err(|_| malformed())?;
    members.sort_by(|(one, _), (two, _)| two.cmp(one));
    let [(version, Value::Number(VERSION)), (name, value)] = members.as_slice() else {
        return Err(malformed());
    };
    match (version.as_str(), name.as_str(), value) {
        ("version", "record", Value::String(record)) if !record.is_empty() => {
            Ok(Reply::Record(ProviderRecord::new(record.expose_secret().to_owned())?))
        }
        ("version", "key", Value::String(key)) => read_key(key.expose_secret()).map(Reply::Key),
        ("version", "error", Value::Object(error)) => {
            let member =
                |name| error.iter().find(|(it, _)| it == name).map(|(_, value)| value.expose_secret());
            match (error.len(), member("kind"), member("message")) {
                (2, Some(kind), Some(message)) => {
                    failure(kind, message).map(Reply::Failed).ok_or_else(malformed)
                }
                _ => Err(malformed()),
            }
        }
        _ => Err(malformed()),
    }
}

fn read_key(text: &str) -> Result<KeyBytes> {
    // The decoder asks for room by whole groups of four.
    let mut bytes = Zeroizing::new([0; KEY_CHARS / 4 * 3]);
    let length = STANDARD.decode_slice(text, bytes.as_mut_slice()).ok();
    let key = length.and_then(|length| bytes.get(..length)).unwrap_or_default();
    KeyBytes::copy_of(key)
}

/// What a program's error means here; `None` if it is of no kind that there is.
fn failure(kind: &str, message: &str) -> Option<Error> {
    let message = shown(message);
    Some(match kind {
        "denied" => Error::new(ErrorKind::Refused, message),
        "not-found" => Error::new(ErrorKind::KeyUnavailable, message),
        "throttled" | "unavailable" => Error::new(ErrorKind::Provider, message).retryable(),
        "invalid" => Error::new(ErrorKind::Malformed, message),
        _ => return None,
    })
}

/// A program's message, its beginning if it is long; not if a key may be in it.
fn shown(message: &str) -> String {
    let encoded = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '-' | '_' | '=');
    if message.split(|c| !encoded(c)).any(|word| word.len() >= SUSPECT_CHARS) {
        return "a message that is not repeated, since a key may be in it".to_owned();
    }
    message.chars().take(SHOWN_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn context() -> ProviderContext {
        ProviderContext::new(Uuid::from_u128(1).into(), Uuid::from_u128(2).into())
    }

    #[test]
    fn a_request_is_json_of_the_length_that_was_taken() {
        let key = KeyBytes::copy_of(&[7; 32]).unwrap();
        let record = ProviderRecord::new("a\"\\\u{1}ü".to_owned()).unwrap();
        for (operation, member, value) in [
            (Operation::Wrap(&key), "key", STANDARD.encode([7; 32])),
            (Operation::Unwrap(&record), "record", record.as_str().to_owned()),
        ] {
            for context in [context(), context().for_organization(Some(Uuid::from_u128(3).into()))] {
                let text = request(&operation, &context).unwrap();
                assert_eq!(text.len(), text.capacity());
                let request: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(request["version"], 1);
                assert_eq!(request[member], value);
                assert_eq!(request["vault"], context.vault_id.to_string());
                assert_eq!(request["organization"].is_null(), context.organization_id.is_none());
                assert_eq!(request["associated_data"], STANDARD.encode(context.associated_data()));
            }
        }
    }

    #[test]
    fn a_reply_is_read_and_anything_else_refused_without_a_word_of_it() {
        let key = STANDARD.encode([7; 32]);
        let read = reply(format!(" {{\"key\":\"{key}\",\"version\":1}}\n").as_bytes());
        assert!(matches!(read, Ok(Reply::Key(key)) if key.expose() == &[7; 32]));
        assert!(matches!(reply(br#"{"version":1,"record":"x"}"#), Ok(Reply::Record(_))));
        for text in [
            String::new(),
            "hunter2".to_owned(),
            "{\"version\":1}".to_owned(),
            "{\"version\":2,\"record\":\"hunter2\"}".to_owned(),
            "{\"version\":1,\"record\":\"\"}".to_owned(),
            "{\"version\":1,\"record\":\"hunter2\",\"key\":\"x\"}".to_owned(),
            "{\"version\":1,\"hunter2\":true}".to_owned(),
            "{\"version\":1,\"hunter2\":\"x\"}".to_owned(),
            format!("{{\"version\":1,\"key\":\"{}\"}}", &key[..40]),
            format!("{{\"version\":1,\"key\":\"{key}{key}\"}}"),
            "{\"version\":1,\"error\":{\"kind\":\"hunter2\",\"message\":\"\"}}".to_owned(),
            "{\"version\":1,\"error\":{\"kind\":\"denied\"}}".to_owned(),
        ] {
            let error = reply(text.as_bytes()).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(reply(&[0xff]).is_err());
    }

    #[test]
    fn each_kind_of_error_is_told_and_a_message_with_a_key_is_not() {
        for (kind, means, retryable) in [
            ("denied", ErrorKind::Refused, false),
            ("not-found", ErrorKind::KeyUnavailable, false),
            ("throttled", ErrorKind::Provider, true),
            ("unavailable", ErrorKind::Provider, true),
            ("invalid", ErrorKind::Malformed, false),
        ] {
            let error = failure(kind, "role \u{1b} may not").unwrap();
            assert_eq!((error.kind(), error.is_retryable()), (means, retryable));
            assert_eq!(error.to_string(), "role   may not");
            let key = STANDARD.encode([0x5a; 32]);
            let hex = "5a".repeat(32);
            for secret in [&key, &hex] {
                let error = failure(kind, &format!("can't wrap {secret}!")).unwrap();
                assert!(!format!("{error:?}").contains(secret.as_str()), "{error:?}");
            }
            assert_eq!(failure(kind, &"x ".repeat(1_000)).unwrap().to_string().len(), SHOWN_CHARS);
        }
    }
}
