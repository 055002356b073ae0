//! What an error of Azure means, in words of ours: its own may repeat what it was asked.

use std::error::Error as StdError;
use std::{fmt, io};

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

/// How the SDK begins to say that a vault asks for a token of somebody else's. The kind of such an error is that of others, too.
const NOT_FOR_IT: &str = "challenge resource ";

/// The error for the person on call, without the action and the key.
pub(super) fn explained(action: Action, key: &Key, error: &azure_core::Error) -> Error {
    if let Some(failure) = cause_of::<Failure>(error) {
        return not_answered(failure);
    }
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
        // The SDK reads no file but the token's, again every ten minutes.
        SdkKind::Credential if cause_of::<io::Error>(error).is_some() => Error::new(
            ErrorKind::Provider,
            "the file of AZURE_FEDERATED_TOKEN_FILE can't be read any more: is it still there, and this process allowed to?",
        ),
        SdkKind::Credential => Error::new(
            ErrorKind::Provider,
            "the service that gives Azure's tokens gave none, and an answer that makes no sense",
        ),
        SdkKind::Other if error.to_string().starts_with(NOT_FOR_IT) => Error::new(
            ErrorKind::Refused,
            "the vault asks for a token that is not for it: none was sent (is there something between here and Azure?)",
        ),
        SdkKind::Other => Error::new(ErrorKind::Provider, "Azure's SDK gave up, and doesn't say why"),
        _ => Error::new(ErrorKind::Provider, "Azure Key Vault gave an answer that makes no sense"),
    }
}

/// The first of the causes of `error`, itself among them, that is a `T`.
fn cause_of<T: StdError + 'static>(error: &azure_core::Error) -> Option<&T> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |error| (*error).source()).find_map(|cause| cause.downcast_ref())
}

fn not_answered(Failure { peer, proxy, fault }: &Failure) -> Error {
    let error = |what: &str| Error::new(ErrorKind::Provider, format!("{peer} {what}"));
    let proxy = proxy.as_ref().map(|place| format!("the proxy {place} of HTTPS_PROXY"));
    match (peer, fault) {
        (Peer::ManagedIdentity, Fault::Unreachable) => Error::new(
            ErrorKind::Provider,
            "there are no Azure credentials: none in the variables AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE, and no \
             managed identity answers on this machine",
        ),
        (Peer::ManagedIdentity, Fault::TooSlow) => Error::new(
            ErrorKind::Provider,
            "Azure's managed identity took too long: if this machine is none of Azure's there are no Azure credentials, as \
             there are none in the variables AZURE_CLIENT_SECRET or AZURE_FEDERATED_TOKEN_FILE",
        )
        .retryable(),
        (_, Fault::TooSlow | Fault::Unreachable | Fault::BrokenOff) => {
            let what = match fault {
                Fault::TooSlow => "took too long",
                Fault::BrokenOff => "broke the connection off",
                _ if *peer == Peer::Vault && proxy.is_none() => "can't be reached, or there is no such vault",
                _ => "can't be reached",
            };
            match proxy {
                Some(proxy) => error(&format!("{what}: it is asked through {proxy}")).retryable(),
                None => error(what).retryable(),
            }
        }
        // What a proxy says for an outage is not told from what it says where it never makes a connection.
        (_, Fault::NoTunnel) => {
            let proxy = proxy.as_deref().unwrap_or("the proxy");
            error(&format!(
                "can't be reached: {proxy} makes no connection to it (is the host allowed there, and the proxy's password right?)"
            ))
            .retryable()
        }
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
        // A managed identity's service answers 404 and 410 while it is updated.
        404 | 410 if peer == Peer::ManagedIdentity => {
            let what =
                format!("{peer} gave no token: it is being updated, or not there (HTTP status {status})");
            Error::new(ErrorKind::Provider, what).retryable()
        }
        _ if may_be_over(status) => {
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
        408 => error(ErrorKind::Provider, "Azure Key Vault didn't get the request in time").retryable(),
        429 => error(ErrorKind::Provider, "Azure Key Vault is asked too often").retryable(),
        500.. => error(ErrorKind::Provider, "Azure Key Vault is down, or not well").retryable(),
        _ => unknown(if is_word(code) { code } else { "an unknown code" }, status),
    }
}

fn forbidden(action: Action, key: &Key, codes: &Codes) -> Error {
    let says =
        |inner: &str, text: &str| codes.inner.as_deref() == Some(inner) || codes.message.contains(text);
    let gone = |what: &str| Error::new(ErrorKind::KeyUnavailable, what);
    if says("KeyOperationForbidden", "is not permitted on this key") {
        return Error::new(
            ErrorKind::InvalidInput,
            format!(
                "{action} isn't among the operations of the key, or of this version of it: `az keyvault key set-attributes \
                 --ops wrapKey unwrapKey`"
            ),
        );
    }
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

/// Whether the same call may have another answer soon, by an answer's status.
const fn may_be_over(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..)
}

fn unknown(what: &str, status: u16) -> Error {
    let error = Error::new(
        ErrorKind::Provider,
        format!("Azure Key Vault answered {what}, with HTTP status {status}"),
    );
    if may_be_over(status) { error.retryable() } else { error }
}

fn is_word(text: &str) -> bool {
    (1..=MAX_WORD).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained_for(error: &azure_core::Error) -> Error {
        let (key, _) = Key::of_spec("https://contoso.vault.azure.net/keys/credvault").unwrap();
        explained(Action::UnwrapKey, &key, error)
    }

    #[test]
    fn a_token_file_that_is_gone_is_said_and_not_repeated() {
        // As the SDK nests it, which reads the file again no sooner than after ten minutes.
        let gone = io::Error::new(io::ErrorKind::NotFound, "hunter2");
        let inner = azure_core::Error::with_error(SdkKind::Credential, gone, "from file /hunter2");
        let error = explained_for(&azure_core::Error::with_error(SdkKind::Credential, inner, "hunter2"));
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.to_string().contains("AZURE_FEDERATED_TOKEN_FILE can't be read"), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let error = explained_for(&azure_core::Error::with_message(SdkKind::Credential, "hunter2"));
        assert!(error.to_string().contains("makes no sense"), "{error}");
    }

    #[test]
    fn not_every_other_error_is_a_vault_that_asks_for_a_strange_token() {
        let error = explained_for(&azure_core::Error::with_message(SdkKind::Other, "hunter2"));
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.to_string().contains("gave up") && !error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn an_outage_on_the_way_is_asked_again_and_names_the_proxy() {
        let failed = |peer, proxy: Option<&str>, fault| {
            let failure = Failure { peer, proxy: proxy.map(str::to_owned), fault };
            explained_for(&azure_core::Error::new(SdkKind::Other, failure))
        };
        let proxy = Some("proxy.example:3128");
        for (peer, proxy, fault, says) in [
            (Peer::Vault, proxy, Fault::NoTunnel, "the proxy proxy.example:3128 of HTTPS_PROXY makes no"),
            (
                Peer::Entra,
                proxy,
                Fault::Unreachable,
                "can't be reached: it is asked through the proxy proxy.example:3128",
            ),
            (Peer::Vault, proxy, Fault::TooSlow, "through the proxy proxy.example:3128"),
            (Peer::Vault, None, Fault::Unreachable, "or there is no such vault"),
            (Peer::ManagedIdentity, None, Fault::TooSlow, "there are no Azure credentials"),
        ] {
            let error = failed(peer, proxy, fault);
            assert!(error.is_retryable() && error.to_string().contains(says), "{error}");
        }
        for status in [404, 408, 410, 429, 500, 503] {
            let error = failed(Peer::ManagedIdentity, None, Fault::NoToken(status, None));
            assert!(error.is_retryable() && error.to_string().contains(&status.to_string()), "{error}");
            let error = failed(Peer::Entra, None, Fault::NoToken(status, None));
            assert_eq!(error.is_retryable(), ![404, 410].contains(&status), "{error}");
        }
        for status in [400, 401, 403] {
            let error = failed(Peer::ManagedIdentity, None, Fault::NoToken(status, None));
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Refused, false), "{error}");
        }
    }
}
