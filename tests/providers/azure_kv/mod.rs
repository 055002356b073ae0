//! Master keys under a key of Azure Key Vault, or of a managed HSM: on keys that really wrap, behind a double of Azure.

mod double;
mod faults;
mod keys;
mod sign_in;
mod vaults;

use credvault::provider::{AzureKv, MasterKeyProvider, ProviderContext, ProviderRecord};
use credvault::{Error, ErrorKind};
use serde_json::json;
use uuid::Uuid;

fn context() -> ProviderContext {
    ProviderContext::new(Uuid::from_u128(1).into(), Uuid::from_u128(2).into())
}

/// A key of a vault, as the double names it.
#[derive(Clone, Debug)]
struct Key(String);

impl Key {
    /// A fresh one, whose vault's name begins so.
    fn named(vault: &str, domain: &str) -> Self {
        let name = Uuid::new_v4().simple().to_string();
        let key = Self(format!("{vault}{}.{domain}.azure.net/keys/credvault", &name[..12]));
        key.rotate();
        // The double is there from now on.
        double::answer_with("", []);
        key
    }

    fn rsa() -> Self {
        Self::named("a", "vault")
    }

    fn hsm() -> Self {
        Self::named("a", "managedhsm")
    }

    /// A new version of it.
    fn rotate(&self) -> String {
        double::keys("add", &json!({"key": self.0}))["version"].as_str().unwrap().to_owned()
    }

    fn enable(&self, version: &str, enabled: bool) {
        double::keys("enable", &json!({"key": self.0, "version": version, "enabled": enabled}));
    }

    fn url(&self) -> String {
        format!("https://{}", self.0)
    }

    fn spec(&self) -> String {
        format!("azure-kv:{}", self.url())
    }

    fn provider(&self) -> AzureKv {
        AzureKv::new(&self.url()).unwrap()
    }

    async fn record(&self) -> ProviderRecord {
        self.provider().create(&context()).await.unwrap().1
    }

    async fn refusal(&self, record: &ProviderRecord, context: &ProviderContext) -> Error {
        self.provider().unlock(record, context).await.unwrap_err()
    }

    /// What was asked of it, challenges aside.
    fn actions(&self) -> Vec<String> {
        let calls = double::take_calls(&self.0).into_iter();
        calls.map(|call| call.action).filter(|action| action != "challenge").collect()
    }
}

/// The version in a record.
fn version_of(record: &ProviderRecord) -> String {
    record.as_str().split('$').nth(3).unwrap().rsplit('/').next().unwrap().to_owned()
}

#[track_caller]
fn assert_says(error: &Error, kind: ErrorKind, says: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for said in says {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
    assert!(!format!("{error:?}").contains("hunter2"), "what Azure said is repeated: {error:?}");
}
