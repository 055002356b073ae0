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

use credvault::Error;
use credvault::provider::{MasterKeyProvider, Pkcs11, ProviderContext, ProviderRecord};
use softhsm::Token;

use crate::conformance::context;
use crate::errors::assert_says;

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
