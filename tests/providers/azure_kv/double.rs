//! Azure, behind a proxy: holds each request to the wire format, answers as a test says, and has keys that really wrap do the
//! rest.
//!
//! The provider talks to Azure's own names: it reaches this by `HTTPS_PROXY`, and trusts it by `SSL_CERT_FILE`. Key Vault is as
//! <https://learn.microsoft.com/rest/api/keyvault/keys> and the page on authentication have it, Entra as
//! <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::{env, fs, thread};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Query;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

pub(super) use crate::double::Answer;
use crate::double::{Double, serve};

/// What Entra gives, which is a secret.
pub(super) const ACCESS_TOKEN: &str = "hunter2.of.the.access.token";

/// What a pod has.
pub(super) const FEDERATED_TOKEN: &str = "hunter2.of.the.federated.token";

/// The header that App Service wants, which is a secret, too.
pub(super) const IDENTITY_HEADER: &str = "hunter2-of-the-identity-header";

/// A request as it came: of a key, or of a tenant or managed identity for a token.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// `challenge`, `wrapkey`, `unwrapkey` or `token`; of a host, `connect`.
    pub(super) action: String,
    pub(super) version: String,
    pub(super) fields: BTreeMap<String, String>,
}

static DOUBLE: OnceLock<Double<Call>> = OnceLock::new();

pub(super) fn variable(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests by tests/providers/run azure-kv"))
}

/// The double, started at the first call.
pub(super) fn double() -> &'static Double<Call> {
    DOUBLE.get_or_init(|| {
        let listener = TcpListener::bind(variable("CREDVAULT_AZURE_DOUBLE")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let azure = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = azure.local_addr().unwrap();
        serve(azure, Router::new().fallback(answer));
        let [trusted, untrusted] = [certificates(Some(&variable("SSL_CERT_FILE"))), certificates(None)];
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            runtime.block_on(proxy(listener, address, trusted, untrusted));
        });
        Double::default()
    })
}

/// TLS for Azure's names; with the root's certificate in that file.
fn certificates(root: Option<&str>) -> TlsAcceptor {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    if let Some(file) = root {
        fs::write(file, params.self_signed(&key).unwrap().pem()).unwrap();
    }
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names =
        ["*.vault.azure.net", "*.managedhsm.azure.net", "login.microsoftonline.com"].map(str::to_owned);
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Takes CONNECT, does to a vault what its name says, and hands on what is said by TLS.
async fn proxy(listener: TcpListener, azure: SocketAddr, trusted: TlsAcceptor, untrusted: TlsAcceptor) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (trusted, untrusted) = (trusted.clone(), untrusted.clone());
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.ok()?);
            }
            let head = String::from_utf8(head).ok()?;
            let host = head.strip_prefix("CONNECT ")?.split_once(":443 HTTP/1.1\r\n")?.0.to_owned();
            let call = Call { action: "connect".to_owned(), version: String::new(), fields: BTreeMap::new() };
            if let Some(Answer::Says(status, _)) = double().next(&host, call) {
                let refusal = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(refusal.as_bytes()).await.ok()?;
                return None;
            }
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
            if host.starts_with("broken-") {
                return None;
            }
            let tls = if host.starts_with("forged-") { untrusted } else { trusted };
            let mut stream = tls.accept(stream).await.ok()?;
            let mut azure = tokio::net::TcpStream::connect(azure).await.ok()?;
            tokio::io::copy_bidirectional(&mut stream, &mut azure).await.ok()
        });
    }
}

/// An error as Key Vault words it.
pub(super) fn fails(status: u16, code: &str, inner: Option<&str>) -> Answer {
    // What a message may repeat, so that an error which shows it is found out.
    let mut error = json!({"code": code, "message": "hunter2 of the message"});
    if let Some(inner) = inner {
        error["innererror"] = json!({"code": inner});
    }
    Answer::Says(status, json!({"error": error}).to_string())
}

/// From here on, calls for `key` get these answers, one each, challenges aside, and after them what the key does. For a host
/// they are what the proxy answers.
pub(super) fn answer_with(key: &str, answers: impl IntoIterator<Item = Answer>) {
    double().answer_with(key, answers);
}

/// The calls for `key` since the last time that somebody asked.
pub(super) fn take_calls(key: &str) -> Vec<Call> {
    double().take_calls(key)
}

async fn answer(
    method: Method,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let host = headers["host"].to_str().unwrap().to_owned();
    let read = if host == "login.microsoftonline.com" {
        read_sign_in(&method, &uri, &headers, &body).map(|(tenant, call)| (tenant, call, None))
    } else {
        read_operation(&method, &host, &uri, &query, &headers, &body)
    };
    let (key, call, perform) = match read {
        Ok(read) => read,
        // A code that the provider repeats.
        Err(what) => return respond(fails(418, &format!("NotAsDocumented-{what}"), None)).await,
    };
    let challenged = call.action == "challenge";
    if challenged {
        double().note(&key, call);
        return challenge(&host);
    }
    if let Some(answer) = double().next(&key, call) {
        return respond(answer).await;
    }
    let Some(perform) = perform else {
        let token = json!({
            "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": ACCESS_TOKEN,
        });
        return respond(Answer::Says(200, token.to_string())).await;
    };
    let answer = tokio::task::spawn_blocking(move || keys("perform", &perform)).await.unwrap();
    respond(Answer::Says(
        u16::try_from(answer["status"].as_u64().unwrap()).unwrap(),
        answer["body"].to_string(),
    ))
    .await
}

/// What a vault answers without a token: whom to ask for which.
fn challenge(host: &str) -> Response {
    let resource = match host.split_once('.').unwrap() {
        (name, _) if name.starts_with("phishing-") => "https://vault.evil.example",
        (_, domain) => &format!("https://{domain}"),
    };
    let challenge =
        format!("Bearer authorization=\"https://login.microsoftonline.com/tenant\", resource=\"{resource}\"");
    let body = json!({"error": {"code": "Unauthorized", "message": "AKV10000: Request is missing a Bearer or PoP token."}});
    (StatusCode::UNAUTHORIZED, [("www-authenticate", challenge)], body.to_string()).into_response()
}

type Read3 = (String, Call, Option<Value>);

/// `POST https://HOST/keys/NAME/VERSION/(un)wrapkey?api-version=…`; else what isn't so.
fn read_operation(
    method: &Method,
    host: &str,
    uri: &Uri,
    query: &BTreeMap<String, String>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Read3, &'static str> {
    let path: Vec<&str> = uri.path().split('/').collect();
    let ["", "keys", name, version, action @ ("wrapkey" | "unwrapkey")] = path[..] else {
        return Err("path");
    };
    let dated = |version: &str| version.len() == 10 && version.starts_with("202");
    if method != Method::POST
        || query.len() != 1
        || !query.get("api-version").is_some_and(|version| dated(version))
    {
        return Err("request-line");
    }
    if version.is_empty() && action == "unwrapkey" {
        return Err("version");
    }
    let key = format!("{host}/keys/{name}");
    let call = |action: &str, fields| Call { action: action.to_owned(), version: version.to_owned(), fields };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("authorization").is_empty() {
        // A body that is sent to nobody knows whom is a key that is given away.
        return if body.is_empty() {
            Ok((key, call("challenge", BTreeMap::new()), None))
        } else {
            Err("body-before-token")
        };
    }
    if header("authorization") != format!("Bearer {ACCESS_TOKEN}") {
        return Err("authorization");
    }
    if header("content-type") != "application/json" || header("accept") != "application/json" {
        return Err("content-type");
    }
    let fields: BTreeMap<String, String> = serde_json::from_slice(body).map_err(|_| "body")?;
    let wanted = if host.ends_with(".managedhsm.azure.net") { "A256KW" } else { "RSA-OAEP-256" };
    if fields.len() != 2 || fields.get("alg").map(String::as_str) != Some(wanted) {
        return Err("members");
    }
    let value = fields.get("value").ok_or("members")?;
    if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        return Err("value");
    }
    let perform = json!({"key": key, "version": version, "action": action, "alg": wanted, "value": value});
    Ok((key, call(action, fields), Some(perform)))
}

/// `POST https://login.microsoftonline.com/TENANT/oauth2/v2.0/token`, by a secret or a federated token.
fn read_sign_in(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(String, Call), &'static str> {
    let tenant =
        uri.path().strip_suffix("/oauth2/v2.0/token").ok_or("path")?.trim_start_matches('/').to_owned();
    if method != Method::POST || headers["content-type"] != "application/x-www-form-urlencoded" {
        return Err("request-line");
    }
    let form =
        Uri::try_from(format!("/?{}", std::str::from_utf8(body).map_err(|_| "body")?)).map_err(|_| "body")?;
    let Query(fields) = Query::<BTreeMap<String, String>>::try_from_uri(&form).map_err(|_| "body")?;
    let field = |name: &str| fields.get(name).map(String::as_str);
    let scopes = [Some("https://vault.azure.net/.default"), Some("https://managedhsm.azure.net/.default")];
    if field("grant_type") != Some("client_credentials") || !scopes.contains(&field("scope")) {
        return Err("grant");
    }
    let by_secret =
        fields.len() == 4 && field("client_secret") == env::var("AZURE_CLIENT_SECRET").ok().as_deref();
    let by_assertion = fields.len() == 5
        && field("client_assertion") == Some(FEDERATED_TOKEN)
        && field("client_assertion_type") == Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    if !(by_secret || by_assertion) || field("client_id") != env::var("AZURE_CLIENT_ID").ok().as_deref() {
        return Err("credentials");
    }
    Ok((tenant, Call { action: "token".to_owned(), version: String::new(), fields }))
}

async fn respond(answer: Answer) -> Response {
    let Answer::Says(status, body) = answer else { return std::future::pending().await };
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("x-ms-request-id", "b2a7f0c4-0000-4000-8000-000000000001"),
        // Longer than anybody waits.
        ("retry-after", "600"),
    ];
    (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
}

/// What the keys answer.
pub(super) fn keys(action: &str, arguments: &Value) -> Value {
    let mut keys = TcpStream::connect(variable("CREDVAULT_KEY_VAULT")).unwrap();
    let body = arguments.to_string();
    write!(keys, "POST /{action} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    keys.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// App Service's managed identity on a port of its own, which answers with these statuses, one each, and what it was asked.
pub(super) fn managed_identity<const N: usize>(
    statuses: [u16; N],
) -> (String, thread::JoinHandle<[HashMap<String, String>; N]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = thread::spawn(move || statuses.map(|status| give_token(&listener, status)));
    (format!("http://{address}/msi/token"), asked)
}

fn give_token(listener: &TcpListener, status: u16) -> HashMap<String, String> {
    let body = if status == 200 {
        json!({
            "access_token": ACCESS_TOKEN, "expires_on": "4102444800", "resource": "https://vault.azure.net",
            "token_type": "Bearer",
        })
    } else {
        json!({"error": "invalid_request", "error_description": "hunter2 of the description"})
    };
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let mut asked = HashMap::from([("line".to_owned(), lines.next().unwrap().to_owned())]);
    asked.extend(
        lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned())),
    );
    asked
}
