//! Keys of Key Vault and of a managed HSM, as the suite has them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credvault::provider::{AzureKv, MasterKeyProvider, ProviderContext, ProviderRecord};
use credvault::{Error, ErrorKind};
use serde_json::json;
use uuid::Uuid;

use super::double::{self, Answer, answer_with, fails, variable};
use crate::conformance::{Counterpart, Recorded, Service, Weather, context};

/// A key of a vault, as the double names it.
#[derive(Clone, Debug)]
pub(super) struct Key(pub(super) String);

impl Key {
    /// A fresh one, whose vault's name begins so.
    pub(super) fn named(vault: &str, domain: &str) -> Self {
        let name = Uuid::new_v4().simple().to_string();
        let key = Self(format!("{vault}{}.{domain}.azure.net/keys/credvault", &name[..12]));
        key.rotate();
        // The double is there from now on.
        double::answer_with("", []);
        key
    }

    pub(super) fn rsa() -> Self {
        Self::named("a", "vault")
    }

    pub(super) fn hsm() -> Self {
        Self::named("a", "managedhsm")
    }

    /// A new version of it.
    pub(super) fn rotate(&self) -> String {
        double::keys("add", &json!({"key": self.0}))["version"].as_str().unwrap().to_owned()
    }

    fn newest(&self) -> String {
        double::keys("newest", &json!({"key": self.0}))["version"].as_str().unwrap().to_owned()
    }

    pub(super) fn disable(&self, version: &str) {
        double::keys("enable", &json!({"key": self.0, "version": version, "enabled": false}));
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}", self.0)
    }

    /// The vault's host, whose connections the double counts, too.
    pub(super) fn host(&self) -> &str {
        self.0.split_once('/').unwrap().0
    }

    pub(super) fn spec(&self) -> String {
        format!("azure-kv:{}", self.url())
    }

    pub(super) fn provider(&self) -> AzureKv {
        AzureKv::new(&self.url()).unwrap()
    }

    pub(super) async fn record(&self) -> ProviderRecord {
        self.provider().create(&context()).await.unwrap().1
    }

    pub(super) async fn refusal(&self, record: &ProviderRecord, context: &ProviderContext) -> Error {
        self.provider().unlock(record, context).await.unwrap_err()
    }

    /// What was asked of it, challenges aside.
    pub(super) fn actions(&self) -> Vec<String> {
        let calls = double::take_calls(&self.0).into_iter();
        calls.map(|call| call.action).filter(|action| action != "challenge").collect()
    }
}

impl Key {
    fn comes_to(&self, weather: Weather, calls: usize) {
        let answer = match weather {
            Weather::Throttled => fails(429, "Throttled", None),
            Weather::Away => fails(503, "ServiceUnavailable", None),
            Weather::Silent => Answer::Never,
            Weather::Denied => fails(403, "Forbidden", Some("ForbiddenByRbac")),
        };
        answer_with(&self.0, vec![answer; calls]);
    }

    /// Azure's next answer has other bytes than were wrapped.
    fn falsified(&self) -> Arc<dyn MasterKeyProvider> {
        let body = json!({"kid": format!("{}/{}", self.url(), self.newest()), "value": URL_SAFE_NO_PAD.encode([7; 32])});
        answer_with(&self.0, [Answer::Says(200, body.to_string())]);
        Arc::new(self.provider())
    }
}

macro_rules! counterpart {
    ($(#[$doc:meta])* $name:ident of $key:ident) => {
        $(#[$doc])*
        pub(crate) struct $name(Key);

        impl Counterpart for $name {
            const KIND: &'static str = "azure-kv";
            const ANOTHER_KEY: ErrorKind = ErrorKind::KeyUnavailable;
            // The commitment in the record comes before the key check.
            const WRONG_KEY: ErrorKind = ErrorKind::Tampered;

            async fn fresh() -> Self {
                Self(Key::$key())
            }

            fn spec(&self) -> String {
                self.0.spec()
            }

            fn impostor(&self) -> Arc<dyn MasterKeyProvider> {
                self.0.falsified()
            }

            fn secrets(&self) -> Vec<Vec<u8>> {
                vec![variable("AZURE_CLIENT_SECRET").into_bytes(), double::ACCESS_TOKEN.as_bytes().to_vec()]
            }
        }

        impl Recorded for $name {
            const ALTERED: ErrorKind = ErrorKind::Tampered;
        }

        impl Service for $name {
            fn weather(&self, weather: Weather, calls: usize) {
                self.0.comes_to(weather, calls);
            }

            fn take_calls(&self) -> usize {
                self.0.actions().len()
            }

            async fn rotate(&self) {
                self.0.rotate();
            }
        }
    };
}

counterpart!(
    /// A key of a vault.
    InVault of rsa
);
counterpart!(
    /// A key of a managed HSM.
    InHsm of hsm
);
