//! What an error of Google Cloud KMS means, in words of ours: its own may repeat what it was asked.

use std::error::Error as StdError;
use std::{fmt, io};

use google_cloud_auth::build_errors;
use google_cloud_gax::client_builder;
use google_cloud_gax::error::rpc::{Code, Status, StatusDetails};
use google_cloud_kms_v1::Error as SdkError;

use crate::error::{Error, ErrorKind};

/// The most characters of a reason that are repeated: longer ones are none of Google's.
const MAX_WORD: usize = 63;

/// What is asked of a key, by the name that a role has for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Encrypt,
    Decrypt,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypt => "cloudkms.cryptoKeyVersions.useToEncrypt",
            Self::Decrypt => "cloudkms.cryptoKeyVersions.useToDecrypt",
        })
    }
}

/// The error for the person on call.
pub(super) fn explained(action: Action, error: &SdkError) -> Error {
    if let Some(status) = error.status() {
        return refused(action, status, error.http_status_code());
    }
    if let Some(status) = error.http_status_code() {
        return unknown("no status of Google's", Some(status));
    }
    if error.is_timeout() {
        return no_answer("took too long");
    }
    if error.is_deserialization() {
        return Error::new(ErrorKind::Provider, "Google Cloud KMS gave an answer that makes no sense");
    }
    if error.is_authentication() {
        return if error.is_transient_and_before_rpc() { no_token_yet() } else { not_accepted() };
    }
    if is_mistrusted(error) {
        return Error::new(
            ErrorKind::Provider,
            "the certificate at the address of Google Cloud KMS is of nobody that this machine trusts",
        );
    }
    if error.is_connect() || error.is_io() {
        return no_answer("can't be reached");
    }
    Error::new(ErrorKind::Provider, "the SDK for Google Cloud KMS failed")
}

/// A checksum that isn't that of what it was sent with, on either side: Google advises to ask again.
pub(super) fn altered_on_the_way(what: &str) -> Error {
    Error::new(ErrorKind::Provider, format!("{what} was altered on the way, by its checksum (CRC32C)"))
        .retryable()
}

/// Credentials that are there and can't be read.
pub(super) fn unreadable(error: &build_errors::Error) -> Error {
    let what = if error.is_loading() {
        "the file of Google credentials can't be read: look at GOOGLE_APPLICATION_CREDENTIALS"
    } else {
        "the file of Google credentials makes no sense, or is of a kind that the SDK doesn't know"
    };
    Error::new(ErrorKind::InvalidInput, what)
}

/// No token for credentials that are there, for a reason that may be over.
pub(super) fn no_token_yet() -> Error {
    Error::new(ErrorKind::Provider, "no token could be had for the Google credentials").retryable()
}

/// Credentials that are there, and of no use.
pub(super) fn not_accepted() -> Error {
    Error::new(ErrorKind::Refused, "Google doesn't accept the credentials")
}

/// No file of credentials, and no token of a metadata server.
pub(super) fn no_credentials() -> Error {
    Error::new(
        ErrorKind::Provider,
        "there are no Google credentials: GOOGLE_APPLICATION_CREDENTIALS isn't set, gcloud has no default for applications, \
         and there is no metadata server that gives a token",
    )
}

/// No client could be made.
pub(super) fn of_the_client(error: &client_builder::Error) -> Error {
    let what = if error.is_universe_domain_mismatch() {
        "the Google credentials are of another universe than googleapis.com: set GOOGLE_CLOUD_UNIVERSE_DOMAIN"
    } else {
        "no client of Google Cloud KMS could be made: are there root certificates (ca-certificates, or SSL_CERT_FILE)?"
    };
    Error::new(ErrorKind::InvalidInput, what)
}

fn no_answer(what: &str) -> Error {
    Error::new(ErrorKind::Provider, format!("Google Cloud KMS {what}")).retryable()
}

/// Whether TLS failed by the certificate, which asking again doesn't help.
fn is_mistrusted(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<rustls::Error>() {
            return matches!(
                error,
                rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented
            );
        }
        // An I/O error's source is that of the error in it.
        next = match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => cause.source(),
        };
    }
    false
}

/// What KMS answered, by its code: <https://cloud.google.com/apis/design/errors>.
fn refused(action: Action, status: &Status, http: Option<u16>) -> Error {
    let error = match status.code {
        Code::PermissionDenied => Error::new(
            ErrorKind::Refused,
            format!(
                "access denied: the caller lacks {action}, which the role {} has, or there is no such key, or the API is off",
                role(action)
            ),
        ),
        Code::Unauthenticated => {
            Error::new(ErrorKind::Refused, "Google doesn't accept the credentials, or not any more")
        }
        Code::NotFound => Error::new(
            ErrorKind::KeyUnavailable,
            "there is no such key in this project, location and key ring, or none that may be seen",
        ),
        Code::FailedPrecondition => Error::new(ErrorKind::KeyUnavailable, state(&status.message)),
        Code::InvalidArgument if says_checksum(&status.message) => altered_on_the_way("what was sent"),
        Code::InvalidArgument if action == Action::Decrypt => Error::new(
            ErrorKind::Tampered,
            "the ciphertext was altered, or is of another vault, master key or organization, or of another key",
        ),
        Code::InvalidArgument => Error::new(
            ErrorKind::InvalidInput,
            "the key is none for ENCRYPT_DECRYPT, symmetric, as is needed",
        ),
        Code::ResourceExhausted => {
            Error::new(ErrorKind::Provider, "Google Cloud KMS is asked too often, or a quota is used up")
                .retryable()
        }
        Code::Unavailable
        | Code::Internal
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Cancelled
        | Code::DataLoss => {
            Error::new(ErrorKind::Provider, "Google Cloud KMS is down, or not well").retryable()
        }
        Code::Unknown => unknown("an unknown status", http),
        ref code => unknown(code.name(), http),
    };
    match reason(status) {
        Some(reason) => error.within(reason),
        None => error,
    }
}

fn role(action: Action) -> &'static str {
    match action {
        Action::Encrypt => "roles/cloudkms.cryptoKeyEncrypterDecrypter",
        Action::Decrypt => "roles/cloudkms.cryptoKeyDecrypter or …EncrypterDecrypter",
    }
}

/// What the state is that a version may not have, by what KMS says of it, which is repeated only where it's one of these.
fn state(message: &str) -> &'static str {
    let is = |state: &str| message.trim_end_matches('.').ends_with(&format!("current state is: {state}"));
    if is("DESTROY_SCHEDULED") {
        "the version of the key is scheduled for destruction (DESTROY_SCHEDULED): restore it at once, then enable it"
    } else if is("DESTROYED") {
        "the version of the key is destroyed (DESTROYED), and with it what it encrypted: nobody can bring it back"
    } else if is("DISABLED") {
        "the version of the key is disabled (DISABLED): enable it"
    } else {
        "the key is in no state to be used: look at its versions, and at which of them is the primary"
    }
}

fn says_checksum(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("crc32c") || message.contains("checksum")
}

/// The one word in an answer that says more than its code, such as `SERVICE_DISABLED` or `IAM_PERMISSION_DENIED`.
fn reason(status: &Status) -> Option<&str> {
    status.details.iter().find_map(|detail| match detail {
        StatusDetails::ErrorInfo(info) if is_word(&info.reason) => Some(info.reason.as_str()),
        _ => None,
    })
}

fn unknown(what: &str, status: Option<u16>) -> Error {
    let status = status.unwrap_or_default();
    let error = Error::new(
        ErrorKind::Provider,
        format!("Google Cloud KMS answered {what}, with HTTP status {status}"),
    );
    if status >= 500 || status == 429 { error.retryable() } else { error }
}

fn is_word(text: &str) -> bool {
    (1..=MAX_WORD).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}
