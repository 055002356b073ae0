//! In front of OpenBao: holds each request to the wire format, answers as a test says, and hands on the rest.
//!
//! The format is that of <https://openbao.org/api-docs/secret/transit/>, which Vault's is, too.

use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub(super) use crate::double::Answer;
use crate::double::{Double, serve};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Without `/v1/` before it.
    pub(super) path: String,
    pub(super) namespace: String,
    pub(super) body: Value,
}

/// The tokens that calls had.
static TOKENS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The keys of a server of old.
static OF_OLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

static DOUBLE: OnceLock<(u16, Double<Call>)> = OnceLock::new();

pub(super) fn variable(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests by tests/providers/run vault-transit"))
}

/// The double and its port, started at the first call.
fn double() -> &'static (u16, Double<Call>) {
    DOUBLE.get_or_init(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        serve(listener, Router::new().fallback(answer));
        (port, Double::default())
    })
}

/// Where the double is.
pub(super) fn address() -> String {
    format!("127.0.0.1:{}", double().0)
}

/// An error as Vault words it.
pub(super) fn fails(status: u16, error: &str) -> Answer {
    // What an error may repeat, so that one which shows it is found out.
    Answer::Says(status, json!({"errors": [error, "hunter2 of the error"]}).to_string())
}

/// From here on, calls for `key`, or of a path that is no key's, get these answers, one each, and OpenBao's after them.
pub(super) fn answer_with(key: &str, answers: impl IntoIterator<Item = Answer>) {
    double().1.answer_with(key, answers);
}

/// From here on, looks at `key`, or at a token by the path, get these answers, and OpenBao's after them.
pub(super) fn answer_looks_with(key: &str, answers: impl IntoIterator<Item = Answer>) {
    double().1.answer_with(&format!("look at {key}"), answers);
}

/// From here on, calls for `key` are taken as Vault took them before 1.13: what it doesn't know is passed over.
pub(super) fn make_old(key: &str) {
    OF_OLD.lock().unwrap().push(key.to_owned());
}

/// The tokens that were asked with, since the last time that somebody asked.
pub(super) fn take_tokens() -> Vec<String> {
    let mut tokens = std::mem::take(&mut *TOKENS.lock().unwrap());
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

fn without_associated_data(body: &[u8]) -> Bytes {
    let Ok(mut body) = serde_json::from_slice::<Value>(body) else { return Bytes::new() };
    body.as_object_mut().unwrap().remove("associated_data");
    body.to_string().into()
}

/// The calls for `key`, or of a path, since the last time that somebody asked.
pub(super) fn take_calls(key: &str) -> Vec<Call> {
    double().1.take_calls(key)
}

/// What the engine at team/transit was asked to do with `key`.
pub(super) fn actions(key: &str) -> Vec<String> {
    take_calls(key).iter().map(|call| call.path.split('/').nth(2).unwrap().to_owned()).collect()
}

async fn answer(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let call = match read(&method, &uri, &headers, &body) {
        Ok(call) => call,
        // A status that the provider repeats.
        Err(what) => panic!("{method} {uri} is not as documented: {what}"),
    };
    let key = match call.path.strip_prefix("team/transit/") {
        Some(rest) => rest.rsplit('/').next().unwrap().to_owned(),
        None => call.path.clone(),
    };
    let next = match method == Method::GET {
        true => {
            double().1.note(&key, call.clone());
            double().1.next(&format!("look at {key}"), call)
        }
        false => double().1.next(&key, call),
    };
    let body = match OF_OLD.lock().unwrap().contains(&key) {
        true => without_associated_data(&body),
        false => body,
    };
    match next {
        Some(Answer::Says(status, body)) => respond(status, body),
        Some(Answer::Never) => std::future::pending().await,
        None => tokio::task::spawn_blocking(move || {
            let (status, body) = http(&variable("CREDVAULT_BAO"), &method, uri.path(), &headers, &body);
            respond(status, body)
        })
        .await
        .unwrap(),
    }
}

/// As the documentation has it; else what isn't so.
fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Call, &'static str> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = uri.path().strip_prefix("/v1/").ok_or("version")?;
    if uri.query().is_some() || header("x-vault-request") != "true" {
        return Err("request-line");
    }
    let wanted: &[&str] = match path.rsplit('/').collect::<Vec<_>>()[..] {
        [_, "encrypt", ..] => &["associated_data", "context", "plaintext"],
        [_, "decrypt", ..] => &["associated_data", "ciphertext", "context"],
        ["login", "kubernetes", ..] => &["jwt", "role"],
        ["login", ..] => &["role_id", "secret_id"],
        [_, "keys", ..] | ["lookup-self", ..] => {
            let is_empty = method == Method::GET && body.is_empty();
            return if is_empty {
                Ok(call(path, header("x-vault-namespace"), Value::Null))
            } else {
                Err("method")
            };
        }
        ["renew-self", ..] => &[],
        _ => return Err("path"),
    };
    if method != Method::POST || header("content-type") != "application/json" {
        return Err("method");
    }
    let token = header("x-vault-token");
    if token.is_empty() != path.ends_with("/login") {
        return Err("token");
    }
    if !token.is_empty() {
        TOKENS.lock().unwrap().push(token.to_owned());
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| "body")?;
    let mut members: Vec<&str> = body.as_object().ok_or("body")?.keys().map(String::as_str).collect();
    members.sort_unstable();
    if members != wanted {
        return Err("members");
    }
    for name in ["associated_data", "context", "plaintext"] {
        if body.get(name).is_some_and(|text| STANDARD.decode(text.as_str().unwrap_or("?")).is_err()) {
            return Err("base64");
        }
    }
    Ok(call(path, header("x-vault-namespace"), body))
}

fn call(path: &str, namespace: &str, body: Value) -> Call {
    Call { path: path.to_owned(), namespace: namespace.to_owned(), body }
}

fn respond(status: u16, body: String) -> Response {
    let headers = [("content-type", "application/json")];
    let mut response = (StatusCode::from_u16(status).unwrap(), headers, body).into_response();
    if (300..400).contains(&status) {
        let elsewhere = format!("http://{}/v1/auth/token/lookup-self", address());
        response.headers_mut().insert("location", elsewhere.parse().unwrap());
    }
    response
}

/// One request, by the HTTP in which no answer is in pieces.
pub(super) fn http(
    address: &str,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> (u16, String) {
    let mut server = TcpStream::connect(address).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut request =
        format!("{method} {path} HTTP/1.0\r\nhost: {address}\r\ncontent-length: {}\r\n", body.len());
    for name in ["content-type", "x-vault-token", "x-vault-namespace"] {
        if let Some(value) = headers.get(name) {
            request += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
    }
    server.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    server.write_all(body).unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
