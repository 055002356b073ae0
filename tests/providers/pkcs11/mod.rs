//! Master keys under a key of a real PKCS#11 token: SoftHSM 2's.

mod faults;
mod keys;
mod login;
#[cfg(feature = "cli")]
mod manual;
#[cfg(target_os = "linux")]
mod memory;
mod softhsm;
mod vaults;

use credvault::provider::{MasterKeyProvider, Pkcs11, ProviderContext, ProviderRecord};
use credvault::{Error, ErrorKind};
use uuid::Uuid;

use softhsm::Token;

fn context() -> ProviderContext {
    ProviderContext::new(Uuid::from_u128(1).into(), Uuid::from_u128(2).into())
}

/// A record of the token's, made by `create`.
async fn record_of(token: &Token) -> ProviderRecord {
    token.provider().create(&context()).await.unwrap().1
}

async fn refusal_to_create(uri: &str) -> Error {
    Pkcs11::from_uri(uri).unwrap().create(&context()).await.unwrap_err()
}

async fn refusal(token: &Token, record: &ProviderRecord, context: &ProviderContext) -> Error {
    token.provider().unlock(record, context).await.unwrap_err()
}

#[track_caller]
fn assert_says(error: &Error, kind: ErrorKind, says: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for said in says {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
}
