//! Master keys under a key of AWS KMS: moto's, and a double in front of it that fails as AWS documents.

pub(crate) mod counterpart;
mod double;
mod faults;
mod keys;
mod manual;
mod moto;

use credvault::Error;
use credvault::provider::{AwsKms, MasterKeyProvider, ProviderContext, ProviderRecord};
use moto::key;

use crate::conformance::context;
use crate::errors::assert_says;

crate::conformance::conformance!(crate::aws_kms::counterpart::Key: keys, records, services);

fn provider(key: &str) -> AwsKms {
    AwsKms::new(key).unwrap()
}

async fn record_of(key: &str) -> ProviderRecord {
    provider(key).create(&context()).await.unwrap().1
}

async fn refusal(key: &str, record: &ProviderRecord, context: &ProviderContext) -> Error {
    provider(key).unlock(record, context).await.unwrap_err()
}
