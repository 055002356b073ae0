//! Master keys under a key of a real PKCS#11 token: SoftHSM 2's.

pub(crate) mod counterpart;
mod faults;
mod keys;
mod login;
#[cfg(feature = "cli")]
mod manual;
#[cfg(target_os = "linux")]
mod memory;
mod softhsm;

use credvault::provider::{MasterKeyProvider, Pkcs11, ProviderContext, ProviderRecord};
use credvault::{Error, ErrorKind};
use softhsm::Token;

use crate::conformance::context;

crate::conformance::conformance!(crate::pkcs11::counterpart::Key: keys, records, services);

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
