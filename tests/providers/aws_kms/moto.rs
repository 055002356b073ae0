//! Moto itself, for what an administrator does.

use aws_config::BehaviorVersion;
use aws_sdk_kms::Client;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use super::double;

pub(super) async fn client() -> Client {
    let https =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let shared = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https).load().await;
    let moto = format!("http://{}", double::variable("CREDVAULT_MOTO"));
    Client::from_conf(aws_sdk_kms::config::Builder::from(&shared).endpoint_url(moto).build())
}

/// A fresh key's ARN.
pub(super) async fn key() -> String {
    let key = client().await.create_key().send().await.unwrap();
    // The double is there from now on.
    double::answer_with("", []);
    key.key_metadata.unwrap().arn.unwrap()
}
