//! The one error of the library: a kind to decide by, a message for the person on call.

use std::error::Error as StdError;
use std::fmt;

/// The result of every fallible call of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as far as a program can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The row changed since it was read: get it again, then retry.
    Conflict,
    /// The caller's input breaks a documented limit; nothing was sealed or written.
    InvalidInput,
    /// A master key is there, but it is not the one that the database was made with.
    KeyMismatch,
    /// A key that is needed is not there, or no longer active.
    KeyUnavailable,
    /// Another process has taken over the running job.
    LeaseLost,
    /// A stored value is not of a form that this library writes.
    Malformed,
    /// The integration does not exist, or belongs to another organization.
    NotFound,
    /// The database holds no vault: run `init` first.
    NotInitialized,
    /// A master-key provider failed: a file's rights, an empty variable, a service that is down.
    Provider,
    /// A guard refused the operation; the message says which.
    Refused,
    /// The database failed, or could not be reached.
    Store,
    /// A stored value was changed, moved or transplanted: its authentication fails.
    Tampered,
    /// A stored value, or a database, is of a newer version than this library.
    Unsupported,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conflict => "conflict",
            Self::InvalidInput => "invalid input",
            Self::KeyMismatch => "key mismatch",
            Self::KeyUnavailable => "key unavailable",
            Self::LeaseLost => "lease lost",
            Self::Malformed => "malformed",
            Self::NotFound => "not found",
            Self::NotInitialized => "not initialized",
            Self::Provider => "provider",
            Self::Refused => "refused",
            Self::Store => "store",
            Self::Tampered => "tampered",
            Self::Unsupported => "unsupported",
        })
    }
}

/// An error with its [kind](Error::kind), whether a [retry](Error::is_retryable) can help, and a message that
/// names ids and never holds a secret, a stored value or a database URL.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    retryable: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; the message names ids and what to do, and must hold nothing secret.
    ///
    /// Public for implementations of [`MasterKeyProvider`](crate::provider::MasterKeyProvider).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let retryable = matches!(kind, ErrorKind::Conflict | ErrorKind::LeaseLost);
        Self(Box::new(Inner { kind, message: message.into(), retryable, source: None }))
    }

    /// The same error with the cause that [`source`](StdError::source) gives.
    ///
    /// The cause's `Display` and `Debug` end up in logs: it must hold nothing secret either.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error, marked as one that may be gone when the call is made again.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// The same error with `prefix` and a colon before its message.
    #[must_use]
    pub(crate) fn within(mut self, prefix: impl fmt::Display) -> Self {
        self.0.message = format!("{prefix}: {}", self.0.message);
        self
    }

    /// The same error for another who waited for what failed; its cause aside.
    pub(crate) fn again(&self) -> Self {
        let Inner { kind, message, retryable, .. } = self.0.as_ref();
        Self(Box::new(Inner { kind: *kind, message: message.clone(), retryable: *retryable, source: None }))
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later: after a fresh get for a conflict, as it is for a database
    /// that was away.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
