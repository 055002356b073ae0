//! Master keys under a key of AWS KMS: moto's, and a double in front of it that fails as AWS documents.

mod double;
mod faults;
mod keys;
mod manual;
mod vaults;

use aws_config::BehaviorVersion;
use aws_sdk_kms::Client;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use credvault::provider::{AwsKms, MasterKeyProvider, ProviderContext, ProviderRecord};
use credvault::{Error, ErrorKind};
use uuid::Uuid;

fn context() -> ProviderContext {
    ProviderContext::new(Uuid::from_u128(1).into(), Uuid::from_u128(2).into())
}

/// Moto itself, for what an administrator does.
async fn moto() -> Client {
    let https =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let shared = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https).load().await;
    let moto = format!("http://{}", double::variable("CREDVAULT_MOTO"));
    Client::from_conf(aws_sdk_kms::config::Builder::from(&shared).endpoint_url(moto).build())
}

/// A fresh key's ARN.
async fn key() -> String {
    let key = moto().await.create_key().send().await.unwrap();
    // The double is there from now on.
    double::answer_with("", []);
    key.key_metadata.unwrap().arn.unwrap()
}

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
