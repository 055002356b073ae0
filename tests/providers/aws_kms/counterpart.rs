//! A key of moto's, as the suite has it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::MasterKeyProvider;
use serde_json::json;

use super::double::{Answer, answer_with, fails, take_calls, variable};
use super::moto;
use crate::conformance::{Counterpart, Recorded, Service, Weather};

/// The key of an ARN.
pub(crate) struct Key(String);

impl Counterpart for Key {
    const KIND: &'static str = "aws-kms";
    const ANOTHER_KEY: ErrorKind = ErrorKind::KeyUnavailable;

    async fn fresh() -> Self {
        Self(moto::key().await)
    }

    fn spec(&self) -> String {
        format!("aws-kms:{}", self.0)
    }

    fn impostor(&self) -> Arc<dyn MasterKeyProvider> {
        let body = json!({"KeyId": self.0, "Plaintext": STANDARD.encode([7; 32])}).to_string();
        answer_with(&self.0, [Answer::Says(200, body)]);
        self.provider()
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        vec![variable("AWS_SECRET_ACCESS_KEY").into_bytes()]
    }
}

impl Recorded for Key {
    const ALTERED: ErrorKind = ErrorKind::Tampered;
}

impl Service for Key {
    fn weather(&self, weather: Weather, calls: usize) {
        let answer = match weather {
            Weather::Throttled => fails(400, "ThrottlingException"),
            Weather::Away => fails(503, "ServiceUnavailable"),
            Weather::Silent => Answer::Never,
            Weather::Denied => fails(400, "AccessDeniedException"),
        };
        answer_with(&self.0, vec![answer; calls]);
    }

    fn take_calls(&self) -> usize {
        take_calls(&self.0).len()
    }
}
