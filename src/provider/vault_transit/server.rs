//! HTTP to one server: no redirect is followed, no proxy used, no more than an answer's worth of bytes read.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::failure::{self, Action};
use super::key::Key;
use super::settings::{MAX_CERTIFICATES_BYTES, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::provider::{guarded_file, in_background};
use crate::secret::SecretText;

/// How long a connection may take: less than an answer may, so that the error says which of the two it was.
const CONNECT: Duration = Duration::from_secs(3);

/// The most bytes of an answer: some hundred times what any answer here takes.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A server, with the settings of the moment: those who rotate a file of certificates or a token need no restart.
pub(super) struct Server {
    pub(super) key: Arc<Key>,
    pub(super) settings: Settings,
    client: Client,
}

impl Server {
    /// Reads the environment and the certificates, and asks nothing yet.
    ///
    /// # Errors
    ///
    /// Those of [`Settings::of_process`]; `Provider` if no certificates are found.
    pub(super) async fn of(key: &Arc<Key>) -> Result<Self> {
        let key = Arc::clone(key);
        in_background(move || {
            let settings = Settings::of_process()?;
            let client = client(&key, &settings)?;
            Ok(Self { key, settings, client })
        })
        .await
    }

    /// What the server answers, once.
    ///
    /// # Errors
    ///
    /// As [`failure`] says; `Provider` for an answer that is none.
    pub(super) async fn call(
        &self,
        action: &Action<'_>,
        token: Option<&SecretText>,
        body: Option<&Zeroizing<String>>,
    ) -> Result<Answer> {
        let within = |error: Error| match &self.settings.namespace {
            Some(namespace) => {
                error.within(format_args!("{action} at {} in the namespace {namespace}", self.key))
            }
            None => error.within(format_args!("{action} at {}", self.key)),
        };
        let method = match action.method() {
            failure::Method::Get => Method::GET,
            failure::Method::Post => Method::POST,
        };
        let url = format!("{}/v1/{}", self.key.origin(), action.path(&self.key));
        // Vault's own agents and proxies may refuse requests that lack it: a forged one, from a browser, can't have it.
        let mut request = self.client.request(method, url).header("x-vault-request", "true");
        if let Some(token) = token {
            request = request.header("x-vault-token", header(token.expose_secret()).map_err(within)?);
        }
        if let Some(namespace) = &self.settings.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(wiped(body));
        }
        let answer = async {
            let response = request.send().await.map_err(|error| not_reached(&error))?;
            let status = response.status().as_u16();
            let text = text(response).await?;
            if status == 200 {
                Ok(Answer(text))
            } else {
                Err(failure::explained(action, &self.key, status, &text))
            }
        };
        answer.await.map_err(within)
    }
}

/// The text of an answer.
pub(super) struct Answer(Zeroizing<String>);

impl Answer {
    /// The string at `path`.
    pub(super) fn string(&self, path: [&str; 2]) -> Result<SecretText> {
        self.member(path).and_then(|text| json::read_string(text).ok()).ok_or_else(no_sense)
    }

    /// The time at `path`, which is in whole seconds.
    pub(super) fn seconds(&self, path: [&str; 2]) -> Result<Duration> {
        let seconds = self.member(path).and_then(|text| text.parse().ok());
        seconds.map(Duration::from_secs).ok_or_else(no_sense)
    }

    /// Whether `true` is at `path`.
    pub(super) fn is_true(&self, path: [&str; 2]) -> bool {
        self.member(path) == Some("true")
    }

    fn member(&self, path: [&str; 2]) -> Option<&str> {
        path.iter().try_fold(self.0.as_str(), |text, name| {
            let members = json::read_members(text).ok()?;
            members.into_iter().find_map(|(member, text)| (member == *name).then_some(text))
        })
    }
}

/// An answer without what was asked for, as of a proxy.
pub(super) fn no_sense() -> Error {
    Error::new(
        ErrorKind::Provider,
        "the answer is none of Vault's: something else is at this address, or between",
    )
}

/// The answer's text, and no more of it than any answer has.
async fn text(mut response: Response) -> Result<Zeroizing<String>> {
    let too_long = || {
        let what = format!("the answer has more than {MAX_ANSWER_BYTES} bytes: it is none of Vault's");
        Error::new(ErrorKind::Provider, what)
    };
    let promised = response.content_length().unwrap_or(0);
    if promised > MAX_ANSWER_BYTES as u64 {
        return Err(too_long());
    }
    let mut text = Zeroizing::new(Vec::new());
    while let Some(piece) = response.chunk().await.map_err(|error| not_reached(&error))? {
        if text.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(too_long());
        }
        if text.capacity() < text.len() + piece.len() {
            // Grown by hand, as growing leaves a copy behind.
            let mut larger =
                Zeroizing::new(Vec::with_capacity((text.len() + piece.len()).next_power_of_two()));
            larger.extend_from_slice(&text);
            text = larger;
        }
        text.extend_from_slice(&piece);
    }
    match String::from_utf8(std::mem::take(&mut *text)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(no_sense())
        }
    }
}

/// A copy that is wiped when the client lets go of it.
fn wiped(text: &str) -> Bytes {
    Bytes::from_owner(Zeroizing::new(text.as_bytes().to_vec()))
}

fn header(secret: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_maybe_shared(wiped(secret))
        .map_err(|_| Error::new(ErrorKind::Provider, "the token is none that can be sent"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn client(key: &Key, settings: &Settings) -> Result<Client> {
    let roots = if key.is_encrypted() { roots(settings)? } else { RootCertStore::empty() };
    let unusable = |_| Error::new(ErrorKind::Provider, "TLS can't be set up");
    // With the ring that the databases' TLS has already, whatever the process's default is.
    let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .no_proxy()
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT)
        // A master key is asked for once an hour: a connection doesn't last so long.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|_| Error::new(ErrorKind::Provider, "no HTTP client could be made"))
}

/// The certificates to trust: those of the file that is said and no others, else the operating system's.
fn roots(settings: &Settings) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &settings.certificates else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::new(
                ErrorKind::Provider,
                "the operating system has no root certificates: install them, or set VAULT_CACERT",
            ));
        }
        return Ok(roots);
    };
    let refuse = |what: &str| Error::new(ErrorKind::Provider, format!("certificate file {path:?} {what}"));
    let pem = guarded_file::read_of_anyone("certificate file", path, MAX_CERTIFICATES_BYTES)?;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| refuse("is not PEM"))?;
        roots.add(certificate).map_err(|_| refuse("has a certificate that can't be trusted"))?;
    }
    if roots.is_empty() { Err(refuse("has no certificate")) } else { Ok(roots) }
}

/// Why no answer came, in words of ours.
fn not_reached(error: &reqwest::Error) -> Error {
    if let Some(tls) = tls_error(error) {
        return Error::new(ErrorKind::Provider, format!("no TLS: {}", untrusted(tls)));
    }
    let what = if error.is_timeout() { "the server took too long" } else { "the server can't be reached" };
    Error::new(ErrorKind::Provider, what).retryable()
}

/// TLS's own error among the causes of another. What an `io::Error` wraps isn't its source, and it may wrap another.
fn tls_error<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let wrapped = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
    let wrapped = wrapped.and_then(|wrapped| tls_error(wrapped));
    wrapped.or_else(|| error.downcast_ref()).or_else(|| error.source().and_then(tls_error))
}

/// Nothing of what the other side sent is in it.
fn untrusted(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                "the server's certificate is of no authority that is trusted: give its own by VAULT_CACERT"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another name than the address says"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired: have it renewed, or set the clock"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet: set the clock"
            }
            _ => "the server's certificate is not valid",
        },
        rustls::Error::AlertReceived(_) => {
            "the server refused the connection; it may want a client's certificate"
        }
        _ => "the server doesn't speak TLS as it should: is it `http`, or another port?",
    }
}
