//! A token of its own, as the suite has it.

use std::sync::Arc;

use credvault::ErrorKind;
use credvault::provider::MasterKeyProvider;

use super::softhsm::{PIN, Token};
use crate::conformance::{Counterpart, Recorded, Service, Weather};

/// A token's only key.
pub(crate) struct Key(Token);

impl Counterpart for Key {
    const KIND: &'static str = "pkcs11";
    /// A ciphertext says nothing of the key that made it.
    const ANOTHER_KEY: ErrorKind = ErrorKind::Tampered;

    async fn fresh() -> Self {
        Self(Token::new())
    }

    fn spec(&self) -> String {
        self.0.uri()
    }

    fn impostor(&self) -> Arc<dyn MasterKeyProvider> {
        // The first call asks for the length.
        self.0.fault("Decrypt flip 2");
        self.provider()
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        vec![PIN.into()]
    }
}

impl Recorded for Key {
    const ALTERED: ErrorKind = ErrorKind::Tampered;
}

impl Service for Key {
    fn weather(&self, weather: Weather, calls: usize) {
        // CKR_SESSION_COUNT, CKR_TOKEN_NOT_PRESENT, CKR_PIN_LOCKED
        let fault = match weather {
            Weather::Throttled => "OpenSession rv=0xB1",
            Weather::Away => "OpenSession rv=0xE0",
            Weather::Silent => "OpenSession wait=7000",
            Weather::Denied => "Login rv=0xA4",
        };
        self.0.fault(&format!("{fault} {calls}"));
    }

    fn take_calls(&self) -> usize {
        // Once an attempt.
        let calls = self.0.calls("Initialize");
        self.0.forget_calls();
        calls
    }
}
