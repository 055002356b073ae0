//! A key of the double's, as the suite has it.

use std::fs;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::MasterKeyProvider;
use serde_json::{Value, json};

use super::double::{Answer, answer_with, crc32c, fails, file, started, take_calls};
use super::service;
use crate::conformance::{Counterpart, Recorded, Service, Weather};

/// A fresh key's name.
pub(super) fn key() -> String {
    started();
    service::create_key()
}

/// What a token is had for.
pub(super) fn credentials() -> Vec<Vec<u8>> {
    let user: Value = serde_json::from_slice(&fs::read(file("user.json")).unwrap()).unwrap();
    ["client_secret", "refresh_token"].map(|name| user[name].as_str().unwrap().as_bytes().to_vec()).to_vec()
}

/// A key by its name.
pub(crate) struct Key(String);

impl Counterpart for Key {
    const KIND: &'static str = "gcp-kms";
    const ANOTHER_KEY: ErrorKind = ErrorKind::KeyUnavailable;

    async fn fresh() -> Self {
        Self(key())
    }

    fn spec(&self) -> String {
        format!("gcp-kms:{}", self.0)
    }

    fn impostor(&self) -> Arc<dyn MasterKeyProvider> {
        let body =
            json!({"plaintext": STANDARD.encode([7; 32]), "plaintextCrc32c": crc32c(&[7; 32]).to_string()});
        answer_with(&self.0, [Answer::Says(200, body.to_string())]);
        self.provider()
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        credentials()
    }
}

impl Recorded for Key {
    const ALTERED: ErrorKind = ErrorKind::Tampered;
}

impl Service for Key {
    fn weather(&self, weather: Weather, calls: usize) {
        let answer = match weather {
            Weather::Throttled => fails(429, "RESOURCE_EXHAUSTED"),
            Weather::Away => fails(503, "UNAVAILABLE"),
            Weather::Silent => Answer::Never,
            Weather::Denied => fails(403, "PERMISSION_DENIED"),
        };
        answer_with(&self.0, vec![answer; calls]);
    }

    fn take_calls(&self) -> usize {
        take_calls(&self.0).len()
    }

    async fn rotate(&self) {
        service::rotate(&self.0);
    }
}
