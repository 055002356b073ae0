//! The SDK's client, set up as the SDK's other tools are.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::identity::IdentityCache;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::Region;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

use super::key::Key;
use crate::error::{Error, ErrorKind, Result};

/// How long a connection may take: less than an answer may, so that the error says which of the two it was.
const CONNECT: Duration = Duration::from_secs(3);

/// How long credentials may take, for the same reason.
const CREDENTIALS: Duration = Duration::from_secs(4);

/// A client whose credentials, endpoint and region are those of the environment and the profile; an ARN's region goes first.
///
/// The provider asks again by itself: the SDK, which would do so within each of those times, doesn't.
///
/// # Errors
///
/// `Provider` if there is no region.
pub(super) async fn client(key: &Key) -> Result<Client> {
    // With the ring that the databases' TLS has already: one implementation of cryptography in the process.
    let https =
        aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(https)
        .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
        .identity_cache(IdentityCache::lazy().load_timeout(CREDENTIALS).build());
    if let Some(region) = key.region() {
        loader = loader.region(Region::new(region.to_owned()));
    }
    let shared = loader.load().await;
    if shared.region().is_none() {
        return Err(Error::new(
            ErrorKind::Provider,
            "no region of AWS KMS is said: give the key's ARN, or set AWS_REGION",
        ));
    }
    let config = aws_sdk_kms::config::Builder::from(&shared).retry_config(RetryConfig::disabled()).build();
    Ok(Client::from_conf(config))
}
