//! Master keys under a key of AWS KMS: moto's, and a double in front of it that fails as AWS documents.

pub(crate) mod counterpart;
mod double;
mod faults;
mod keys;
mod manual;
mod moto;

use credvault::provider::{AwsKms, MasterKeyProvider, ProviderContext, ProviderRecord};
use credvault::{Error, ErrorKind};
use moto::key;

use crate::conformance::context;

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

#[track_caller]
fn assert_says(error: &Error, kind: ErrorKind, says: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for said in says {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
    assert!(!format!("{error:?}").contains("hunter2"), "what AWS said is repeated: {error:?}");
}
