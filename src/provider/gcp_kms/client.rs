//! The SDK's client, set up as Google's other tools are.

use std::time::Duration;

use google_cloud_auth::credentials::{Builder, Credentials, anonymous};
use google_cloud_gax::client_builder::{self, internal::with_follow_redirects};
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_kms_v1::client::KeyManagementService;
use rustls::crypto::{CryptoProvider, ring};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::endpoint::Endpoint;
use super::failure;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::in_background;

/// How long a token may take: less than an answer may, so that the error says which of the two it was.
const CREDENTIALS: Duration = Duration::from_secs(4);

/// A client with a token for the application's default credentials.
///
/// Each call gets one of its own: a client keeps a token up to date in the background, or the error in its place, and is
/// needed once an hour. So nothing of it stays in the process, and credentials that are exchanged are read again.
///
/// # Errors
///
/// `InvalidInput` for an endpoint or credentials that can't be read, `Refused` for those that Google doesn't accept,
/// `Provider` if there are none, or no token for them.
pub(super) async fn client(endpoint: Option<Endpoint>) -> Result<KeyManagementService> {
    use_ring();
    let endpoint = match endpoint {
        Some(endpoint) => Some(endpoint),
        None => Endpoint::of_environment()?,
    };
    // Without root certificates it is this that fails: asking for a token would panic.
    match built(anonymous::Builder::new().build(), endpoint.as_ref()).await? {
        Err(error) if error.is_transport() => return Err(failure::of_the_client(&error)),
        _ => {}
    }
    let client = built(credentials().await?, endpoint.as_ref()).await?;
    client.map_err(|error| failure::of_the_client(&error))
}

/// What the SDK does, as a task that ends with its caller. A panic of its, as by a token that lasts longer than a clock can
/// say, is then an error.
///
/// # Errors
///
/// Those of `work`; `Provider` for a panic.
pub(super) async fn guarded<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    match tasks.join_next().await {
        Some(Ok(result)) => result,
        _ => Err(Error::new(ErrorKind::Provider, "the SDK for Google Cloud KMS panicked")),
    }
}

/// The same for a call, whose messages hold a master key: the SDK traces them whole where `GOOGLE_CLOUD_RUST_LOGGING` asks for
/// that. So nobody listens.
pub(super) async fn untraced<T: Send + 'static>(
    call: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    guarded(call.with_subscriber(NoSubscriber::default())).await
}

async fn built(
    credentials: Credentials,
    endpoint: Option<&Endpoint>,
) -> Result<client_builder::Result<KeyManagementService>> {
    // The provider asks again by itself: the SDK, which would do so within each answer's time, doesn't. Nor does it send a
    // master key wherever a redirect points.
    let mut builder =
        KeyManagementService::builder().with_credentials(credentials).with_retry_policy(NeverRetry);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.as_str());
    }
    let builder = with_follow_redirects(builder, false);
    // It reads the operating system's roots.
    in_background(move || Ok(Handle::current().block_on(builder.build()))).await
}

async fn credentials() -> Result<Credentials> {
    // It reads their file.
    let credentials =
        in_background(|| Builder::default().build().map_err(|error| failure::unreadable(&error))).await?;
    match tokio::time::timeout(CREDENTIALS, credentials.headers(Default::default())).await {
        Ok(Ok(_)) => Ok(credentials),
        Ok(Err(error)) => Err(failure::no_token(error.is_transient())),
        Err(_) => Err(failure::no_token_in_time()),
    }
}

/// The SDK encrypts and signs with whatever rustls has for the process, and panics if that is nothing. So where the
/// application has chosen nothing it's ring, which the databases' TLS has already.
fn use_ring() {
    if CryptoProvider::get_default().is_none() {
        // If another thread was faster, there is one now.
        let _ = ring::default_provider().install_default();
    }
}
