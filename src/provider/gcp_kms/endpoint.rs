//! Where Google Cloud KMS is reached, if not at its public address.

use std::env::{self, VarError};

use crate::error::{Error, ErrorKind, Result};

/// What `gcloud` and its tools are told the address of KMS by (`gcloud topic endpoint-override`).
const VARIABLE: &str = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS";

/// `https://HOST` or `https://HOST:PORT`; without TLS only on this machine, as a double of tests is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint(String);

impl Endpoint {
    /// Reads `url`, with or without a slash at its end.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other form, which is not repeated: it may hold a password.
    pub(super) fn read(url: &str) -> Result<Self> {
        let url = url.strip_suffix('/').unwrap_or(url);
        let usable = match url.split_once("://") {
            Some(("https", authority)) => is_authority(authority),
            Some(("http", authority)) => is_authority(authority) && is_this_machine(authority),
            _ => false,
        };
        match usable {
            true => Ok(Self(url.to_owned())),
            false => Err(Error::new(
                ErrorKind::InvalidInput,
                "the endpoint of Google Cloud KMS is given as `https://HOST` or `https://HOST:PORT`, with `http` only for this \
                 machine's own addresses (what was given is not repeated here)",
            )),
        }
    }

    /// The one that the environment says, if any.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read), naming the variable.
    pub(super) fn of_environment() -> Result<Option<Self>> {
        match env::var(VARIABLE) {
            Ok(url) => Self::read(&url).map(Some).map_err(|error| error.within(VARIABLE)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(_)) => Self::read("").map(Some).map_err(|error| error.within(VARIABLE)),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// `HOST`, `HOST:PORT`, `[::1]` or `[::1]:PORT`: neither a user nor a path.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix("[::1]") {
        Some(port) => ("localhost", port),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let named =
        !host.is_empty() && host.chars().all(|char| char.is_ascii_alphanumeric() || "-.".contains(char));
    let placed = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    named && placed
}

fn is_this_machine(authority: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"]
        .into_iter()
        .any(|host| authority.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_with_tls_or_this_machine() {
        for (url, endpoint) in [
            ("https://cloudkms-vault.p.googleapis.com/", "https://cloudkms-vault.p.googleapis.com"),
            (
                "https://cloudkms.europe-west3.rep.googleapis.com",
                "https://cloudkms.europe-west3.rep.googleapis.com",
            ),
            ("https://10.0.0.7:8443", "https://10.0.0.7:8443"),
            ("http://127.0.0.1:9011", "http://127.0.0.1:9011"),
            ("http://localhost", "http://localhost"),
            ("http://[::1]:9011/", "http://[::1]:9011"),
        ] {
            assert_eq!(Endpoint::read(url).unwrap().as_str(), endpoint);
        }
        for url in [
            "",
            "https://",
            "hunter2",
            "http://10.0.0.7",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://127.0.0.1:9011@example.com",
            "https://user:hunter2@example.com",
            "https://example.com/v1/",
            "https://example.com//",
            "https://example.com?x=hunter2",
            "https://example.com#x",
            "https://example.com:",
            "https://example.com:+1",
            "https://example.com:65536",
            "https://[::2]",
            "HTTPS://example.com",
            "ftp://example.com",
            "https://example.com\n",
        ] {
            let error = Endpoint::read(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
