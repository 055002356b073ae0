//! A key of OpenBao's, as the suite has it.

use std::fs;
use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::MasterKeyProvider;
use serde_json::{Value, json};
use uuid::Uuid;

use super::double::{self, Answer, answer_with, fails, take_calls, variable};
use crate::conformance::{Counterpart, Recorded, Service, Weather};

/// What an administrator does at OpenBao itself, and what it answers.
pub(super) fn as_root(method: Method, path: &str, body: &Value) -> Value {
    let token = variable("CREDVAULT_BAO_ROOT");
    administer(&variable("CREDVAULT_BAO"), &token, method, path, body)
}

pub(super) fn administer(address: &str, token: &str, method: Method, path: &str, body: &Value) -> Value {
    let mut headers = HeaderMap::new();
    headers.insert("x-vault-token", token.parse().unwrap());
    let (status, answer) =
        double::http(address, &method, &format!("/v1/{path}"), &headers, body.to_string().as_bytes());
    assert!([200, 204].contains(&status), "{path}: {status} {answer}");
    if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).unwrap() }
}

/// The name of a fresh key of the engine at team/transit.
pub(super) fn key() -> String {
    let key = format!("k-{}", Uuid::new_v4());
    as_root(Method::POST, &format!("team/transit/keys/{key}"), &json!({}));
    key
}

pub(super) fn rotate(key: &str) {
    as_root(Method::POST, &format!("team/transit/keys/{key}/rotate"), &json!({}));
}

/// Where the double takes calls for `key`.
pub(super) fn at(key: &str) -> String {
    format!("http://{}/team/transit/{key}", double::address())
}

pub(super) fn spec(key: &str) -> String {
    format!("vault-transit:{}", at(key))
}

/// A key by its name.
pub(crate) struct Key(String);

impl Counterpart for Key {
    const KIND: &'static str = "vault-transit";
    const ANOTHER_KEY: ErrorKind = ErrorKind::KeyUnavailable;

    async fn fresh() -> Self {
        Self(key())
    }

    fn spec(&self) -> String {
        spec(&self.0)
    }

    fn impostor(&self) -> Arc<dyn MasterKeyProvider> {
        let plaintext = json!({"data": {"plaintext": STANDARD.encode([7; 32])}});
        answer_with(&self.0, [Answer::Says(200, plaintext.to_string())]);
        self.provider()
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        let token = fs::read_to_string(variable("VAULT_TOKEN_FILE")).unwrap();
        vec![token.trim().as_bytes().to_vec()]
    }
}

impl Recorded for Key {
    const ALTERED: ErrorKind = ErrorKind::Tampered;
}

impl Service for Key {
    fn weather(&self, weather: Weather, calls: usize) {
        let answer = match weather {
            Weather::Throttled => fails(429, ""),
            Weather::Away => fails(503, ""),
            Weather::Silent => Answer::Never,
            Weather::Denied => fails(403, "permission denied"),
        };
        answer_with(&self.0, vec![answer; calls]);
    }

    fn take_calls(&self) -> usize {
        let is_look = |path: &str| path.contains("/keys/");
        take_calls(&self.0).iter().filter(|call| !is_look(&call.path)).count()
    }

    async fn rotate(&self) {
        rotate(&self.0);
    }
}
