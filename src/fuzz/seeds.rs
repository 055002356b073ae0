//! What each parser begins with.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::Parser;

const VECTORS: &str = include_str!("../../tests/vectors/vectors.json");
const LEGACY_VECTORS: &str = include_str!("../../tests/vectors/legacy_vectors.json");

/// As it is written, and nearly so.
const RECORDS: [&str; 5] = [
    "argon2id$v=19$m=65536,t=3,p=4$AAECAwQFBgcICQoLDA0ODw",
    "argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw",
    "argon2id$v=19$m=+65536,t=3,p=4$AAECAwQFBgcICQoLDA0ODw",
    "argon2id$v=19$m=65536,t=03,p=4$AAECAwQFBgcICQoLDA0ODw",
    "argon2id$v=19$m=4294967295,t=3,p=4$AAECAwQFBgcICQoLDA0ODw",
];

const SPECS: [&str; 7] = [
    "file:/etc/credvault/master.key",
    "env:CREDVAULT_KEY",
    "passphrase:env:CREDVAULT_PASSPHRASE",
    "passphrase:file:/etc/passphrase",
    "passphrase:prompt",
    "file:cvmk1_",
    "env:not a name",
];

const URLS: [&str; 8] = [
    "postgres://user:secret@host:5432/database?sslmode=require&application_name=a",
    "postgresql://%2Fvar%2Frun%2Fpostgresql/database?options=-c%20statement_timeout%3D1",
    "postgres://user@[::1]:5432/database?options[search_path]=a&statement-cache-capacity=1",
    "postgres:///database?host=/tmp&port=5433&user=a&password=b&dbname=c&sslrootcert=/a&hostaddr=127.0.0.1",
    "sqlite:vault.db",
    "sqlite:///var/lib/vault.db?mode=rwc&cache=private&immutable=true&vfs=unix",
    "sqlite::memory:",
    "sqlite:%2e%00?mode=memory",
];

const OBJECTS: [&str; 4] = [
    r#"{"access_token":"ghs_16C7e42F292c6912E7710c838347Ae178B4a","installation_id":"51234567"}"#,
    r#" { "\u0061" : "\"\\\/\b\f\n\r\t\u0000\ud83d\udd11" } "#,
    r#"{"a":"b","a":"c"}"#,
    r#"{"a":{"b":["c",1.5e3,true,null]}}"#,
];

const LINES: [&str; 2] = [
    r#"{"version":1,"organization_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","integration_id":null,"connector":"github","credential_type":"token","expires_at":"2027-01-31T12:00:00.000001+01:00","fields":{"access_token":"ghp_1","b\n":"\ud83d\udd11"}}"#,
    r#"{"organization_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","integration_id":"7f9619ff-8b86-4d01-b42d-00cf4fc964ff","credential_type":"x","fields":{}}"#,
];

pub(super) fn of(parser: Parser) -> Vec<Vec<u8>> {
    match parser {
        Parser::Row => texts(VECTORS, &["rows", "must_not_open"], "stored"),
        Parser::WrappedKey => texts(VECTORS, &["wrapped_keys", "must_not_unwrap_as_shared"], "stored"),
        Parser::LegacyRow => {
            let mut rows = texts(LEGACY_VECTORS, &["rows"], "stored");
            rows.push(STANDARD.encode([7; 29]).into_bytes());
            rows
        }
        Parser::Payload => {
            let payloads = texts(VECTORS, &["rows"], "payload");
            let mut twice = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2].to_vec();
            twice.extend([0, 1, b'a', 0, 0, 0, 0].repeat(2));
            twice.resize(128, 0);
            payloads.iter().map(|hex| hex.chunks_exact(2).map(byte).collect()).chain([twice]).collect()
        }
        Parser::KeyFile => {
            let vectors = parsed(VECTORS);
            let line = vectors["master_key_text"].as_str().unwrap_or_default();
            let bad = vectors["bad_master_key_texts"].as_array().into_iter().flatten();
            let bad = bad.filter_map(Value::as_str).map(str::to_owned);
            [format!("# A comment\r\n\n \t{line} # since May\r\n{line}"), line.to_owned()]
                .into_iter()
                .chain(bad)
                .map(String::into_bytes)
                .collect()
        }
        Parser::PassphraseRecord => bytes(&RECORDS),
        Parser::MasterKeySpec => bytes(&SPECS),
        Parser::DatabaseUrl => bytes(&URLS),
        Parser::JsonObject => bytes(&OBJECTS),
        Parser::CredentialLine => bytes(&LINES),
    }
}

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn parsed(vectors: &str) -> Value {
    serde_json::from_str(vectors).unwrap_or_default()
}

/// The texts of a member in each entry of these lists.
fn texts(vectors: &str, lists: &[&str], member: &str) -> Vec<Vec<u8>> {
    let vectors = parsed(vectors);
    let entries = lists.iter().filter_map(|list| vectors[*list].as_array()).flatten();
    entries.filter_map(|entry| entry[member].as_str()).map(|text| text.as_bytes().to_vec()).collect()
}

/// The byte of two hexadecimal digits.
fn byte(digits: &[u8]) -> u8 {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        .unwrap_or_default()
}
