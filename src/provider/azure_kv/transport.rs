//! The SDK's requests over hyper, with the TLS that the databases have: by ring, and the roots of the operating system.
//!
//! The SDK's own client would bring a second implementation of cryptography along. Redirects are not followed, and no
//! answer takes more memory than [`MAX_ANSWER_BYTES`].

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use azure_core::Bytes;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::Uri;
use hyper::http::HeaderValue;
use hyper::http::uri::Scheme;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// How long a connection may take: less than an answer may, so that the error says which of the two it was.
const CONNECT: Duration = Duration::from_secs(3);

/// How long a connection is kept without a request, which are an hour apart.
const IDLE: Duration = Duration::from_secs(10);

/// The most bytes of an answer, and those of its head: ten times the longest token.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Whom a transport talks to, and how an error says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Vault,
    /// Microsoft Entra, which gives tokens for secrets and federated tokens.
    Entra,
    /// What gives tokens on Azure's own machines: an address of the host or the container, in the clear.
    ManagedIdentity,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vault => "Azure Key Vault",
            Self::Entra => "Microsoft Entra",
            Self::ManagedIdentity => "Azure's managed identity",
        })
    }
}

/// Why there was no answer, or none to go on with. It finds its way through the SDK's errors as their cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) peer: Peer,
    /// Where the proxy is that it was asked through, if there is one.
    pub(super) proxy: Option<String>,
    pub(super) fault: Fault,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What could not be made a request, or must not be sent.
    NotSent,
    TooSlow,
    Unreachable,
    /// The proxy, which is reached, makes no connection.
    NoTunnel,
    /// A certificate that no root here vouches for, or no TLS.
    Untrusted,
    BrokenOff,
    TooLong,
    /// No token, with the status, and the error's code if it has one.
    NoToken(u16, Option<String>),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer of {}", self.peer)
    }
}

impl StdError for Failure {}

/// Requests to one host.
pub(super) struct Https {
    peer: Peer,
    /// `HOST:PORT`, without the name and password that the variable may have.
    proxy: Option<String>,
    channel: Channel,
}

enum Channel {
    Direct(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Tunnel(Client<HttpsConnector<Tunnel<HttpConnector>>, Full<Bytes>>),
}

impl Https {
    /// For requests to the host of `url`: through the proxy of `HTTPS_PROXY`, unless `NO_PROXY` has the host or it is a
    /// managed identity's. Reads the system's roots, which blocks.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a proxy that isn't `http://`; `Provider` without any roots.
    pub(super) fn new(peer: Peer, url: &str) -> Result<Self> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(CONNECT));
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).http1_max_buf_size(MAX_ANSWER_BYTES);
        let schemes = HttpsConnectorBuilder::new().with_tls_config(tls()?);
        if peer == Peer::ManagedIdentity {
            let https = schemes.https_or_http().enable_http1().wrap_connector(connector);
            return Ok(Self { peer, proxy: None, channel: Channel::Direct(builder.build(https)) });
        }
        let schemes = schemes.https_only().enable_http1();
        let proxy = url.parse().ok().and_then(|url| Matcher::from_env().intercept(&url));
        let place = proxy.as_ref().map(|proxy| place(proxy.uri()));
        let channel = match proxy {
            None => Channel::Direct(builder.build(schemes.wrap_connector(connector))),
            Some(proxy) if proxy.uri().scheme() == Some(&Scheme::HTTP) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
                if let Some(authorization) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                Channel::Tunnel(builder.build(schemes.wrap_connector(tunnel)))
            }
            Some(_) => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "the proxy of HTTPS_PROXY, or ALL_PROXY, is none of the form `http://HOST:PORT`",
                ));
            }
        };
        Ok(Self { peer, proxy: place, channel })
    }

    async fn exchange(&self, request: &Request) -> std::result::Result<AsyncRawResponse, Fault> {
        let url = request.url();
        if url.scheme() != "https" && self.peer != Peer::ManagedIdentity {
            return Err(Fault::NotSent);
        }
        let Body::Bytes(body) = request.body().clone() else { return Err(Fault::NotSent) };
        let uri: Uri = url.as_str().parse().map_err(|_| Fault::NotSent)?;
        let mut sent = hyper::Request::builder().method(request.method().as_str()).uri(uri);
        for (name, value) in request.headers().iter() {
            let mut value = HeaderValue::from_str(value.as_str()).map_err(|_| Fault::NotSent)?;
            value.set_sensitive(true);
            sent = sent.header(name.as_str(), value);
        }
        let sent = sent.body(Full::new(body)).map_err(|_| Fault::NotSent)?;
        let answer = match &self.channel {
            Channel::Direct(client) => client.request(sent).await,
            Channel::Tunnel(client) => client.request(sent).await,
        };
        let (head, mut rest) = answer.map_err(|error| self.fault(&error))?.into_parts();

        // An answer may hold a key: it is read into memory that doesn't move, and wiped by whoever drops it last.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES));
        while let Some(frame) = rest.frame().await {
            let Ok(data) = frame.map_err(|_| Fault::BrokenOff)?.into_data() else { continue };
            if data.len() > MAX_ANSWER_BYTES - body.len() {
                return Err(Fault::TooLong);
            }
            body.extend_from_slice(&data);
        }
        let status = head.status.as_u16();
        if self.peer != Peer::Vault && !head.status.is_success() {
            return Err(Fault::NoToken(status, code(&body)));
        }
        let mut headers = Headers::new();
        for (name, value) in &head.headers {
            if let Ok(value) = value.to_str() {
                headers.insert(name.as_str().to_owned(), value.to_owned());
            }
        }
        Ok(AsyncRawResponse::from_bytes(StatusCode::from(status), headers, Bytes::from_owner(body)))
    }

    fn fault(&self, error: &ClientError) -> Fault {
        let mut broken = false;
        let causes = std::iter::successors(Some(error as &(dyn StdError + 'static)), |error| cause(*error));
        for cause in causes {
            if cause.is::<rustls::Error>() {
                return Fault::Untrusted;
            }
            if let Some(error) = cause.downcast_ref::<io::Error>() {
                if error.kind() == io::ErrorKind::TimedOut {
                    return Fault::TooSlow;
                }
                broken = true;
            }
        }
        match (&self.channel, error.is_connect()) {
            (_, false) => Fault::BrokenOff,
            (Channel::Tunnel(_), true) if !broken => Fault::NoTunnel,
            (_, true) => Fault::Unreachable,
        }
    }
}

/// `HOST:PORT` of a proxy.
fn place(proxy: &Uri) -> String {
    let host = proxy.host().unwrap_or_default();
    format!("{host}:{}", proxy.port_u16().unwrap_or(80))
}

/// The cause of an error; an I/O error keeps its own in another place.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// Azure's names are checked against the roots of the system, or of `SSL_CERT_FILE`.
fn tls() -> Result<ClientConfig> {
    let no_roots = |_: io::Error| {
        Error::new(
            ErrorKind::Provider,
            "the system has no root certificates to check Azure's by: install ca-certificates",
        )
    };
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|_| Error::new(ErrorKind::Provider, "TLS could not be set up"))?;
    Ok(builder.with_native_roots().map_err(no_roots)?.with_no_client_auth())
}

/// The number of an error of Entra, as in `AADSTS7000215`, or else its word, as in `invalid_request`.
fn code(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    match &body["error_codes"][0] {
        Value::Number(number) => Some(format!("AADSTS{number}")),
        _ => body["error"].as_str().map(str::to_owned),
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https").field("peer", &self.peer).finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Https {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.exchange(request).await.map_err(|fault| {
            // Of this kind the SDK asks nothing again: the provider does.
            let failure = Failure { peer: self.peer, proxy: self.proxy.clone(), fault };
            azure_core::Error::new(azure_core::error::ErrorKind::Other, failure)
        })
    }
}
