//! What an error of Azure means, in words of ours: its own may repeat what it was asked.

use std::error::Error as StdError;
use std::fmt;

use azure_core::error::ErrorKind as SdkKind;
use azure_core::http::RawResponse;
use azure_core::http::headers::HeaderName;
use serde_json::Value;

use super::key::{Algorithm, Key};
use super::transport::{Failure, Fault, Peer};
use crate::error::{Error, ErrorKind};

/// The most characters of a code or request id that are repeated: longer ones are none of Azure's.
const MAX_WORD: usize = 64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");

/// What is asked of a key, by the name that an access policy has for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    WrapKey,
    UnwrapKey,
}

impl Action {
    /// The end of the name that a role has for it.
    const fn of_role(self) -> &'static str {
        match self {
            Self::WrapKey => "keys/wrap/action",
            Self::UnwrapKey => "keys/unwrap/action",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrapKey => "wrapKey",
            Self::UnwrapKey => "unwrapKey",
        })
    }
}

/// The error for the person on call.
pub(super) fn explained(action: Action, key: &Key, error: &azure_core::Error) -> Error {
    let mut causes =
        std::iter::successors(Some(error as &(dyn StdError + 'static)), |error| (*error).source());
    let explained = if let Some(failure) = causes.find_map(|cause| cause.downcast_ref::<Failure>()) {
        not_answered(failure)
    } else {
        match error.kind() {
            SdkKind::HttpResponse { status, raw_response, .. } => {
                let answer = raw_response.as_deref();
                let refused = refused(action, key, (*status).into(), &codes(answer));
                match answer
                    .and_then(|answer| answer.headers().get_optional_str(&REQUEST_ID))
                    .filter(|id| is_word(id))
                {
                    Some(id) => refused.within(format_args!("request {id}")),
                    None => refused,
                }
            }
            SdkKind::Credential => Error::new(
                ErrorKind::Provider,
                "the service that gives Azure's tokens gave none, and an answer that makes no sense",
            ),
            SdkKind::Other => Error::new(
                ErrorKind::Refused,
                "the vault asks for a token that is not for it: none was sent (is there something between here and Azure?)",
            ),
            _ => Error::new(ErrorKind::Provider, "Azure Key Vault gave an answer that makes no sense"),
        }
    };
    explained.within(format_args!("{action} on {key}"))
}

fn not_answered(Failure { peer, fault }: &Failure) -> Error {
    let error = |what: &str| Error::new(ErrorKind::Provider, format!("{peer} {what}"));
    match (peer, fault) {
        (Peer::ManagedIdentity, Fault::TooSlow | Fault::Unreachable) => Error::new(
            ErrorKind::Provider,
            "there are no Azure credentials: none in the variables AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, and no \
             managed identity answers on this machine",
        ),
        (_, Fault::TooSlow) => error("took too long").retryable(),
        (Peer::Vault, Fault::Unreachable) => error("can't be reached, or there is no such vault").retryable(),
        (_, Fault::Unreachable) => error("can't be reached").retryable(),
        (_, Fault::BrokenOff) => error("broke the connection off").retryable(),
        (_, Fault::NoTunnel) => error("can't be reached: the proxy of HTTPS_PROXY makes no connection to it"),
        (_, Fault::Untrusted) => error(
            "has a certificate that no root of this system vouches for, or speaks no TLS: look at what is between here and \
             Azure, and at SSL_CERT_FILE",
        ),
        (_, Fault::NotSent) => error("can't be asked by these settings"),
        (_, Fault::TooLong) => error("gave an answer that is too long"),
        (_, Fault::NoToken(status, code)) => no_token(*peer, *status, code.as_deref()),
    }
}

fn no_token(peer: Peer, status: u16, code: Option<&str>) -> Error {
    let code = code.filter(|code| is_word(code)).unwrap_or("an unknown code");
    match status {
        429 | 500.. => {
            let what = format!("{peer} gave no token: HTTP status {status}");
            Error::new(ErrorKind::Provider, what).retryable()
        }
        400 | 401 | 403 => {
            let look = if peer == Peer::Entra {
                "look at AZURE_TENANT_ID, AZURE_CLIENT_ID and when the secret, or the federated credential, ends"
            } else {
                "is one assigned to this machine, and AZURE_CLIENT_ID unset or its own?"
            };
            Error::new(ErrorKind::Refused, format!("{peer} gave no token ({code}): {look}"))
        }
        _ => Error::new(ErrorKind::Provider, format!("{peer} gave no token: {code}, HTTP status {status}")),
    }
}

/// The code of an error of Key Vault, that of the error within, and its text, which is looked at and not repeated.
#[derive(Default)]
struct Codes {
    code: Option<String>,
    inner: Option<String>,
    message: String,
}

fn codes(answer: Option<&RawResponse>) -> Codes {
    let Some(body) = answer.and_then(|answer| serde_json::from_slice::<Value>(answer.body()).ok()) else {
        return Codes::default();
    };
    let error = &body["error"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Codes {
        code: text(&error["code"]),
        inner: text(&error["innererror"]["code"]),
        message: text(&error["message"]).unwrap_or_default(),
    }
}

/// What Key Vault answered: <https://learn.microsoft.com/azure/key-vault/general/rest-error-codes>, and the codes within.
fn refused(action: Action, key: &Key, status: u16, codes: &Codes) -> Error {
    let error = |kind, what: &str| Error::new(kind, what);
    let Some(code) = codes.code.as_deref() else {
        return unknown("no error's code", status);
    };
    match status {
        400 if action == Action::UnwrapKey => error(
            ErrorKind::Tampered,
            "the wrapped key was altered, or is of another version of the key than the record says",
        ),
        400 => error(
            ErrorKind::InvalidInput,
            match key.algorithm() {
                Algorithm::RsaOaep256 => {
                    "the key can't wrap by RSA-OAEP-256: it has to be an RSA key, with wrapKey and unwrapKey among its operations"
                }
                Algorithm::A256Kw => {
                    "the key can't wrap by A256KW: it has to be an oct-HSM key of 256 bits, with wrapKey and unwrapKey among its \
                 operations"
                }
            },
        ),
        401 => error(
            ErrorKind::Refused,
            "Azure Key Vault doesn't accept the token: is the vault of the tenant that the credentials are of?",
        ),
        403 => forbidden(action, key, codes),
        404 => error(
            ErrorKind::KeyUnavailable,
            "there is no such key, or version of it, in this vault: it was deleted, or the wrong one is given",
        ),
        429 => error(ErrorKind::Provider, "Azure Key Vault is asked too often").retryable(),
        500.. => error(ErrorKind::Provider, "Azure Key Vault is down, or not well").retryable(),
        _ => unknown(if is_word(code) { code } else { "an unknown code" }, status),
    }
}

fn forbidden(action: Action, key: &Key, codes: &Codes) -> Error {
    let says =
        |inner: &str, text: &str| codes.inner.as_deref() == Some(inner) || codes.message.contains(text);
    let gone = |what: &str| Error::new(ErrorKind::KeyUnavailable, what);
    if says("KeyDisabled", "disabled key") {
        return gone("the key, or this version of it, is disabled: have it enabled again");
    }
    if says("KeyExpired", "expired key") {
        return gone(
            "the key, or this version of it, has expired: rotate it, or have its date of expiry moved",
        );
    }
    if says("KeyNotYetValid", "not yet valid") {
        return gone("the key, or this version of it, is not valid yet: have its activation date moved");
    }
    if says("ForbiddenByFirewall", "Client address is not authorized")
        || says("ForbiddenByConnection", "Public network access")
    {
        return Error::new(
            ErrorKind::Refused,
            "the vault's network rules keep this machine out: give it a private endpoint, or let its address in",
        );
    }
    let (role, policy) = match key.algorithm() {
        Algorithm::RsaOaep256 => {
            ("Key Vault Crypto Service Encryption User", format!(", or an access policy {action}"))
        }
        Algorithm::A256Kw => ("Managed HSM Crypto Service Encryption User", String::new()),
    };
    let what = format!(
        "access denied: the caller lacks {} on this key, which the role `{role}` has{policy}",
        action.of_role()
    );
    Error::new(ErrorKind::Refused, what)
}

fn unknown(what: &str, status: u16) -> Error {
    let error = Error::new(
        ErrorKind::Provider,
        format!("Azure Key Vault answered {what}, with HTTP status {status}"),
    );
    if status >= 500 || status == 429 { error.retryable() } else { error }
}

fn is_word(text: &str) -> bool {
    (1..=MAX_WORD).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
