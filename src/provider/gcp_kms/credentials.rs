//! The application's default credentials, and a first token for them.

use std::env;
use std::path::Path;

use google_cloud_auth::credentials::{Builder, Credentials};
use tokio::time::{Instant, timeout_at};

use super::failure;
use crate::error::{Error, Result};
use crate::provider::in_background;

/// Where the SDK looks for credentials. It only chooses the words for what fails.
#[derive(Clone, Copy)]
pub(super) enum Source {
    File,
    MetadataServer,
}

impl Source {
    /// What the SDK chooses. It looks whether a file is there.
    fn of_environment() -> Self {
        let file = ".config/gcloud/application_default_credentials.json";
        let is_named = env::var_os("GOOGLE_APPLICATION_CREDENTIALS").is_some();
        if is_named || env::var_os("HOME").is_some_and(|home| Path::new(&home).join(file).exists()) {
            Self::File
        } else {
            Self::MetadataServer
        }
    }

    /// No token, or not all that goes with it, for a reason that may be over: on GKE, the metadata server may not answer in the
    /// first seconds of a pod.
    pub(super) fn gives_no_token_yet(self) -> Error {
        match self {
            Self::File => failure::no_token_yet(),
            Self::MetadataServer => failure::no_credentials().retryable(),
        }
    }

    /// No token, and none if it's asked again.
    fn gives_no_token(self) -> Error {
        match self {
            Self::File => failure::not_accepted(),
            Self::MetadataServer => failure::no_credentials(),
        }
    }
}

/// Credentials that have a token by `deadline`, and where they are from.
///
/// # Errors
///
/// `InvalidInput` if they can't be read, `Refused` if Google doesn't accept them, `Provider` if there are none, or no token
/// for them.
pub(super) async fn with_token(deadline: Instant) -> Result<(Credentials, Source)> {
    // Their file is looked for, and read.
    let (source, credentials) =
        in_background(|| Ok((Source::of_environment(), Builder::default().build()))).await?;
    let credentials = credentials.map_err(|error| failure::unreadable(&error))?;
    match timeout_at(deadline, credentials.headers(Default::default())).await {
        Ok(Ok(_)) => Ok((credentials, source)),
        Ok(Err(error)) if error.is_transient() => Err(source.gives_no_token_yet()),
        Ok(Err(_)) => Err(source.gives_no_token()),
        Err(_) => Err(source.gives_no_token_yet()),
    }
}
