//! The SDK's client, set up as Google's other tools are.

use std::time::Duration;

use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_gax::client_builder::{self, internal::with_follow_redirects};
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_kms_v1::client::KeyManagementService;
use rustls::crypto::{CryptoProvider, ring};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::endpoint::Endpoint;
use super::{credentials, failure};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::in_background;

/// How long a client with a token may take: less than an answer may, so that the error says which of the two it was.
const CREDENTIALS: Duration = Duration::from_secs(4);

/// A client with a token for the application's default credentials.
///
/// Each key that is asked for gets one of its own: a client keeps a token up to date in the background, and is needed for
/// seconds, an hour apart. So nothing of it stays in the process, and credentials that are exchanged are read again.
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
    let deadline = Instant::now() + CREDENTIALS;
    // Without root certificates it is this that fails: asking for a token would panic.
    match built(anonymous::Builder::new().build(), endpoint.as_ref(), deadline).await? {
        Some(Err(error)) if error.is_transport() => return Err(failure::of_the_client(&error)),
        _ => {}
    }
    let (credentials, source) = credentials::with_token(deadline).await?;
    match built(credentials, endpoint.as_ref(), deadline).await? {
        Some(client) => client.map_err(|error| failure::of_the_client(&error)),
        None => Err(source.gives_no_token_yet()),
    }
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

/// A client with these credentials, or why there is none; `None` after the deadline.
async fn built(
    credentials: Credentials,
    endpoint: Option<&Endpoint>,
    deadline: Instant,
) -> Result<Option<client_builder::Result<KeyManagementService>>> {
    // The provider asks again by itself: the SDK, which would do so within each answer's time, doesn't. Nor does it send a
    // master key wherever a redirect points.
    let mut builder =
        KeyManagementService::builder().with_credentials(credentials).with_retry_policy(NeverRetry);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint.as_str());
    }
    let builder = with_follow_redirects(builder, false);
    // It reads the operating system's roots, and asks a metadata server for its universe, for which the SDK has no limit. A
    // thread that waits for that ends with nobody but itself: so the limit is in the thread.
    let building = async move { timeout_at(deadline, builder.build()).await.ok() };
    in_background(move || Ok(Handle::current().block_on(building))).await
}

/// The SDK encrypts and signs with whatever rustls has for the process, and panics if that is nothing. So where the
/// application has chosen nothing it's ring, which the databases' TLS has already.
fn use_ring() {
    if CryptoProvider::get_default().is_none() {
        // If another thread was faster, there is one now.
        let _ = ring::default_provider().install_default();
    }
}
