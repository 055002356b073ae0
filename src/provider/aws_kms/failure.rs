//! What an error of AWS KMS means, in words of ours: its own may repeat what they were asked.

use std::error::Error as StdError;
use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;

use super::key::Key;
use crate::error::{Error, ErrorKind};

/// The most characters of a code or request id that are repeated: longer ones are none of AWS's.
const MAX_WORD: usize = 64;

/// What is asked of a key, by the name that a policy has for it.
#[derive(Clone, Copy)]
pub(super) enum Action {
    GenerateDataKey,
    Encrypt,
    Decrypt,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GenerateDataKey => "kms:GenerateDataKey",
            Self::Encrypt => "kms:Encrypt",
            Self::Decrypt => "kms:Decrypt",
        })
    }
}

/// The error for the person on call.
pub(super) fn explained<E>(action: Action, key: &Key, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + 'static,
    SdkError<E, HttpResponse>: RequestId,
{
    let explained = match error {
        SdkError::TimeoutError(_) => no_answer("took too long"),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => no_answer("took too long"),
        SdkError::DispatchFailure(failure) if failure.is_io() => no_answer("can't be reached"),
        SdkError::DispatchFailure(_) => not_sent(error),
        SdkError::ConstructionFailure(_) => {
            Error::new(ErrorKind::Provider, "no request to AWS KMS could be made of the settings")
        }
        SdkError::ServiceError(answer) => match answer.err().code() {
            Some(code) => refused(action, code, answer.raw().status().as_u16()),
            None => no_sense(answer.raw()),
        },
        SdkError::ResponseError(answer) => no_sense(answer.raw()),
        _ => Error::new(ErrorKind::Provider, "the SDK for AWS KMS failed"),
    };
    let explained = explained.within(format_args!("{action} on {key}"));
    match error.request_id().filter(|id| is_word(id)) {
        Some(id) => explained.within(format_args!("request {id}")),
        None => explained,
    }
}

fn no_answer(what: &str) -> Error {
    Error::new(ErrorKind::Provider, format!("AWS KMS {what}")).retryable()
}

/// Nothing was sent: there are no credentials to sign it with.
fn not_sent(error: &(dyn StdError + 'static)) -> Error {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    match causes.find_map(|cause| cause.downcast_ref::<CredentialsError>()) {
        Some(CredentialsError::CredentialsNotLoaded(_)) => Error::new(
            ErrorKind::Provider,
            "there are no AWS credentials: none in the environment, the profile, the container or the machine's metadata",
        ),
        Some(CredentialsError::InvalidConfiguration(_)) => Error::new(
            ErrorKind::Provider,
            "the settings for AWS credentials make no sense: look at the profile and the variables AWS_*",
        ),
        _ => Error::new(ErrorKind::Provider, "AWS credentials could not be had").retryable(),
    }
}

/// What KMS answered, by its code: <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html>, and the page of
/// each action.
fn refused(action: Action, code: &str, status: u16) -> Error {
    let error = |kind, what: &str| Error::new(kind, what);
    match code {
        "AccessDeniedException" | "AccessDenied" => error(
            ErrorKind::Refused,
            &format!(
                "access denied: the key's policy, or the caller's, lacks {action} with this encryption context"
            ),
        ),
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "OptInRequired" => error(ErrorKind::Refused, "AWS doesn't accept the credentials"),
        "ExpiredTokenException" | "ExpiredToken" | "RequestExpired" => {
            error(ErrorKind::Refused, "the AWS credentials, or the clock, are out of date")
        }
        "NotFoundException" => error(
            ErrorKind::KeyUnavailable,
            "there is no such key, or alias, in this account and region: it was deleted, or the wrong one is given",
        ),
        "DisabledException" => error(ErrorKind::KeyUnavailable, "the key is disabled: have it enabled again"),
        "KMSInvalidStateException" | "KmsInvalidStateException" => error(
            ErrorKind::KeyUnavailable,
            "the key is in no state to be used: if its deletion is scheduled, cancel that at once, and enable it",
        ),
        "InvalidKeyUsageException" => {
            error(ErrorKind::InvalidInput, "the key is none for ENCRYPT_DECRYPT, symmetric, as is needed")
        }
        "InvalidCiphertextException" => error(
            ErrorKind::Tampered,
            "the ciphertext was altered, or is of another vault, master key or organization",
        ),
        "IncorrectKeyException" => error(
            ErrorKind::KeyUnavailable,
            "the ciphertext is of another key; after an alias was moved, give the ARN of the one before, too, and rewrap",
        ),
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "LimitExceededException" => error(ErrorKind::Provider, "AWS KMS is asked too often").retryable(),
        "KMSInternalException"
        | "KmsInternalException"
        | "DependencyTimeoutException"
        | "KeyUnavailableException"
        | "InternalFailure"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout" => error(ErrorKind::Provider, "AWS KMS is down, or not well").retryable(),
        _ => unknown(if is_word(code) { code } else { "an unknown code" }, status),
    }
}

/// An answer that is none of KMS's, as from a proxy.
fn no_sense(answer: &HttpResponse) -> Error {
    unknown("no error's code", answer.status().as_u16())
}

fn unknown(what: &str, status: u16) -> Error {
    let error =
        Error::new(ErrorKind::Provider, format!("AWS KMS answered {what}, with HTTP status {status}"));
    if status >= 500 || status == 429 { error.retryable() } else { error }
}

fn is_word(text: &str) -> bool {
    (1..=MAX_WORD).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}
