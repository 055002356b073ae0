//! Master keys under a key of Google Cloud KMS: a double that encrypts, decrypts, rotates and fails as Google documents.

mod command;
pub(crate) mod counterpart;
mod credentials;
mod double;
mod faults;
mod keys;
mod service;
mod tls;
mod vaults;

use credvault::provider::{GcpKms, MasterKeyProvider, ProviderContext, ProviderRecord};
use credvault::{Error, ErrorKind};

use counterpart::key;

use crate::conformance::context;

crate::conformance::conformance!(crate::gcp_kms::counterpart::Key: keys, records, services);

fn provider(key: &str) -> GcpKms {
    GcpKms::new(key).unwrap()
}

async fn record_of(key: &str) -> ProviderRecord {
    provider(key).create(&context()).await.unwrap().1
}

async fn refusal(key: &str, record: &ProviderRecord, context: &ProviderContext) -> Error {
    provider(key).unlock(record, context).await.unwrap_err()
}

#[track_caller]
fn assert_says(error: &Error, kind: ErrorKind, says: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for said in says {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
    assert!(!format!("{error:?}").contains("hunter2"), "what Google said is repeated: {error:?}");
}
