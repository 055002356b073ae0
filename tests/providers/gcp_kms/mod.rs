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

use credvault::Error;
use credvault::provider::{GcpKms, MasterKeyProvider, ProviderContext, ProviderRecord};

use counterpart::key;

use crate::conformance::context;
use crate::errors::assert_says;

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
