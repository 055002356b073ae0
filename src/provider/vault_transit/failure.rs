//! What a refusal of Vault or OpenBao means, in words of ours: its own may repeat what they were asked.

use std::fmt;

use super::key::Key;
use super::settings::Login;
use crate::error::{Error, ErrorKind};

/// What is asked of a server.
pub(super) enum Action<'a> {
    /// Whether the key is there.
    Look,
    Encrypt,
    Decrypt,
    LogIn(&'a Login),
    LookUpToken,
    RenewToken,
}

/// How it is asked.
#[derive(Clone, Copy)]
pub(super) enum Method {
    Get,
    Post,
}

impl Method {
    /// What a policy must have for it.
    fn capability(self) -> &'static str {
        match self {
            Self::Get => "read",
            Self::Post => "update",
        }
    }
}

impl Action<'_> {
    pub(super) fn method(&self) -> Method {
        match self {
            Self::Look | Self::LookUpToken => Method::Get,
            Self::Encrypt | Self::Decrypt | Self::LogIn(_) | Self::RenewToken => Method::Post,
        }
    }

    /// The path that is called, without the API's version before it.
    pub(super) fn path(&self, key: &Key) -> String {
        match self {
            Self::Look => key.path("keys"),
            Self::Encrypt => key.path("encrypt"),
            Self::Decrypt => key.path("decrypt"),
            Self::LogIn(login) => login.path(),
            Self::LookUpToken => "auth/token/lookup-self".to_owned(),
            Self::RenewToken => "auth/token/renew-self".to_owned(),
        }
    }
}

impl fmt::Display for Action<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look => f.write_str("look at the key"),
            Self::Encrypt => f.write_str("encrypt"),
            Self::Decrypt => f.write_str("decrypt"),
            Self::LogIn(login) => write!(f, "login by {login}"),
            Self::LookUpToken => f.write_str("look at the token"),
            Self::RenewToken => f.write_str("renew the token"),
        }
    }
}

/// The error for the person on call. The statuses are those of <https://openbao.org/api-docs/#http-status-codes>; what went
/// wrong with a key is in the text alone.
pub(super) fn explained(action: &Action<'_>, key: &Key, status: u16, text: &str) -> Error {
    match (status, action) {
        (300..400, _) => Error::new(
            ErrorKind::Provider,
            "the server redirects, which is not followed: give the address of the active node, or of what leads to it",
        ),
        (412, _) => failed("the server doesn't know the newest state yet").retryable(),
        (429, _) => failed("the server is asked too often: a quota of its requests is used up").retryable(),
        (503, _) if text.contains("sealed") => failed("the server is sealed: have it unsealed").retryable(),
        (500.., _) => failed(&format!("the server is down, or not well: HTTP status {status}")).retryable(),
        (400 | 401 | 403..=405, Action::LogIn(login)) => not_logged_in(login, status, text),
        (403, _) => denied(action, key),
        (400, _) if text.contains("missing client token") => denied(action, key),
        (400, _) => bad_request(action, text),
        (404 | 405, Action::LookUpToken | Action::RenewToken) => failed(&format!(
            "there is no {} (HTTP status {status}): look at VAULT_NAMESPACE, and at what is between",
            action.path(key)
        )),
        (404, _) => Error::new(
            ErrorKind::KeyUnavailable,
            format!(
                "there is no such key, or no transit engine at {}, in this namespace: look at the address, at VAULT_NAMESPACE \
                 and whether it was deleted",
                key.mount()
            ),
        ),
        (405, _) => Error::new(
            ErrorKind::InvalidInput,
            format!("what is mounted at {} is no transit engine", key.mount()),
        ),
        _ => failed(&format!("the server answered HTTP status {status}, which says nothing here")),
    }
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Provider, what)
}

fn denied(action: &Action<'_>, key: &Key) -> Error {
    let path = action.path(key);
    let capability = action.method().capability();
    Error::new(
        ErrorKind::Refused,
        format!(
            "permission denied: the token is not valid any more, or its policies lack \
             `path \"{path}\" {{ capabilities = [\"{capability}\"] }}`"
        ),
    )
}

fn not_logged_in(login: &Login, status: u16, text: &str) -> Error {
    let path = login.path();
    if text.contains("no handler for route") || text.contains("namespace not found") {
        return Error::new(
            ErrorKind::InvalidInput,
            format!("nothing is enabled at {path}: look at VAULT_AUTH_MOUNT and VAULT_NAMESPACE"),
        );
    }
    let what = match login {
        Login::AppRole { .. } => "the role's id or its secret, which may be used up or out of date",
        Login::Kubernetes { .. } => "the role, or the pod's service account, which the role may not be for",
    };
    // OpenBao denies, too, what isn't there.
    Error::new(
        ErrorKind::Refused,
        format!(
            "the server does not accept {what}, or has no such login at {path}, which VAULT_AUTH_MOUNT and VAULT_NAMESPACE \
             say (HTTP status {status})"
        ),
    )
}

/// By the texts of OpenBao 2.7 and of Vault, whose transit engines are of one origin.
fn bad_request(action: &Action<'_>, text: &str) -> Error {
    let says = |words: &str| text.contains(words);
    if says("message authentication failed") || says("invalid ciphertext length") {
        return Error::new(
            ErrorKind::Tampered,
            "the ciphertext was altered, or is of another vault, master key or organization, or of another key of this name, as \
             another namespace (VAULT_NAMESPACE) may have",
        );
    }
    if says("disallowed by policy (too old)") {
        return Error::new(
            ErrorKind::KeyUnavailable,
            "the key's min_decryption_version was raised above the version that encrypted it: lower it again, then run \
             `credvault master-key refresh`",
        );
    }
    if says("version is too new") {
        return Error::new(
            ErrorKind::KeyUnavailable,
            "the key has no such version: it is of an older backup, or another key of this name",
        );
    }
    if says("soft deleted") || says("soft-deleted") {
        return Error::new(
            ErrorKind::KeyUnavailable,
            "the key is deleted for the time being: have it restored",
        );
    }
    if says("encryption key not found") {
        return Error::new(
            ErrorKind::KeyUnavailable,
            "there is no such key: it was deleted, or the wrong one is given",
        );
    }
    if says("invalid ciphertext") {
        return Error::new(ErrorKind::Tampered, "the ciphertext was altered");
    }
    if says("non-AEAD") || says("not supported") || says("unsupported") {
        return Error::new(
            ErrorKind::InvalidInput,
            "the key is of no type that authenticates a context, as is needed: take aes256-gcm96",
        );
    }
    failed(match action {
        Action::RenewToken => "the token is not renewable",
        _ => "the server answered HTTP status 400, and nothing that is known here",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_of_a_kind_and_nothing_of_its_text_is_repeated() {
        let key = Key::read("https://bao/team/transit/k").unwrap();
        let app_role = Login::AppRole {
            mount: "approle".to_owned(),
            role: super::super::settings::Source::Variable("VAULT_ROLE_ID".to_owned()),
            secret: None,
        };
        let login = Action::LogIn(&app_role);
        use ErrorKind::{InvalidInput, KeyUnavailable, Provider, Refused, Tampered};
        for (action, status, text, kind, retryable, says) in [
            (&Action::Decrypt, 307, "", Provider, false, "not followed"),
            (
                &Action::Decrypt,
                400,
                "cipher: message authentication failed",
                Tampered,
                false,
                "VAULT_NAMESPACE",
            ),
            (&Action::Decrypt, 400, "invalid ciphertext: no prefix", Tampered, false, "altered"),
            (
                &Action::Decrypt,
                400,
                "disallowed by policy (too old)",
                KeyUnavailable,
                false,
                "min_decryption_version",
            ),
            (
                &Action::Decrypt,
                400,
                "invalid ciphertext: version is too new",
                KeyUnavailable,
                false,
                "older backup",
            ),
            (&Action::Decrypt, 400, "encryption key not found", KeyUnavailable, false, "no such key"),
            (&Action::Decrypt, 400, "hunter2", Provider, false, "HTTP status 400"),
            (
                &Action::Encrypt,
                400,
                "'associated_data' for non-AEAD cipher",
                InvalidInput,
                false,
                "aes256-gcm96",
            ),
            (
                &Action::Decrypt,
                403,
                "hunter2",
                Refused,
                false,
                "path \"team/transit/decrypt/k\" { capabilities = [\"update\"] }",
            ),
            (
                &Action::Look,
                403,
                "",
                Refused,
                false,
                "path \"team/transit/keys/k\" { capabilities = [\"read\"] }",
            ),
            (
                &Action::LookUpToken,
                403,
                "",
                Refused,
                false,
                "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }",
            ),
            (
                &Action::RenewToken,
                403,
                "",
                Refused,
                false,
                "path \"auth/token/renew-self\" { capabilities = [\"update\"] }",
            ),
            (&Action::LookUpToken, 404, "", Provider, false, "no auth/token/lookup-self"),
            (&Action::RenewToken, 405, "", Provider, false, "no auth/token/renew-self"),
            (&Action::Decrypt, 404, "no handler for route", KeyUnavailable, false, "team/transit"),
            (&Action::Decrypt, 405, "", InvalidInput, false, "no transit engine"),
            (&Action::Decrypt, 412, "", Provider, true, "newest state"),
            (&Action::Decrypt, 429, "", Provider, true, "too often"),
            (&Action::Decrypt, 473, "", Provider, false, "473"),
            (&Action::Decrypt, 500, "", Provider, true, "500"),
            (&Action::Decrypt, 502, "<html>hunter2", Provider, true, "502"),
            (&Action::Decrypt, 503, "Vault is sealed", Provider, true, "sealed"),
            (&Action::RenewToken, 400, "lease is not renewable", Provider, false, "not renewable"),
            (&login, 400, "invalid role or secret ID", Refused, false, "secret"),
            (&login, 403, "", Refused, false, "403"),
            (&login, 404, "no handler for route", InvalidInput, false, "VAULT_AUTH_MOUNT"),
            (&login, 405, "unsupported operation", Refused, false, "no such login at auth/approle/login"),
            (&login, 503, "Vault is sealed", Provider, true, "sealed"),
        ] {
            let error = explained(action, &key, status, &format!("{{\"errors\":[\"{text} hunter2\"]}}"));
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{status} {text}: {error}");
            assert!(error.to_string().contains(says), "{says} is not in: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
