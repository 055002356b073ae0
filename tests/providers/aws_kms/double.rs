//! In front of moto: holds each request to the wire format, answers as a test says, and hands on the rest.
//!
//! The protocol is AWS JSON 1.1, each error as <https://docs.aws.amazon.com/kms/latest/APIReference/CommonErrors.html> and
//! the pages of the actions document it.

use std::collections::HashMap;
use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub(super) use crate::double::Answer;
use crate::double::{Double, serve};

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) action: String,
    pub(super) region: String,
    pub(super) body: Value,
}

static DOUBLE: OnceLock<Double<Call>> = OnceLock::new();

pub(super) fn variable(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests by tests/providers/run aws-kms"))
}

/// The double, started at the first call.
pub(super) fn double() -> &'static Double<Call> {
    DOUBLE.get_or_init(|| {
        let address = format!("127.0.0.1:{}", variable("CREDVAULT_KMS_DOUBLE"));
        serve(TcpListener::bind(address).unwrap(), Router::new().fallback(answer));
        Double::default()
    })
}

/// An error as KMS words it.
pub(super) fn fails(status: u16, code: &str) -> Answer {
    // What a message may repeat, so that an error which shows it is found out.
    Answer::Says(status, json!({"__type": code, "message": "hunter2 of the message"}).to_string())
}

/// From here on, calls for `key` get these answers, one each, and moto's after them.
pub(super) fn answer_with(key: &str, answers: impl IntoIterator<Item = Answer>) {
    double().answer_with(key, answers);
}

/// The calls for `key` since the last time that somebody asked.
pub(super) fn take_calls(key: &str) -> Vec<Call> {
    double().take_calls(key)
}

async fn answer(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let call = match read(&method, &uri, &headers, &body) {
        Ok(call) => call,
        // A code that the provider repeats.
        Err(what) => return respond(fails(400, &format!("NotAsDocumented-{what}"))).await,
    };
    let key = call.body["KeyId"].as_str().unwrap_or_default().to_owned();
    match double().next(&key, call) {
        Some(answer) => respond(answer).await,
        None => tokio::task::spawn_blocking(move || hand_on(&headers, &body)).await.unwrap(),
    }
}

/// As API Reference, "Making requests", and Signature Version 4 have it; else what isn't so.
fn read(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Call, &'static str> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if method != Method::POST || uri != "/" {
        return Err("request-line");
    }
    if header("content-type") != "application/x-amz-json-1.1" {
        return Err("content-type");
    }
    let action = header("x-amz-target").strip_prefix("TrentService.").ok_or("target")?;
    let date = header("x-amz-date");
    let authorization = header("authorization").strip_prefix("AWS4-HMAC-SHA256 ").ok_or("authorization")?;
    let parts: HashMap<&str, &str> =
        authorization.split(", ").filter_map(|part| part.split_once('=')).collect();
    let scope: Vec<&str> = parts.get("Credential").ok_or("credential")?.split('/').collect();
    let [_, day, region, "kms", "aws4_request"] = scope[..] else { return Err("scope") };
    if date.len() != 16 || !date.starts_with(day) {
        return Err("date");
    }
    let signed: Vec<&str> = parts.get("SignedHeaders").ok_or("signed-headers")?.split(';').collect();
    if !["host", "x-amz-date", "x-amz-target"].iter().all(|name| signed.contains(name)) {
        return Err("signed-headers");
    }
    let signature = parts.get("Signature").ok_or("signature")?;
    if signature.len() != 64 || !signature.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("signature");
    }

    let body: Value = serde_json::from_slice(body).map_err(|_| "body")?;
    let mut members: Vec<&str> = body.as_object().ok_or("body")?.keys().map(String::as_str).collect();
    members.sort_unstable();
    let (wanted, text) = match action {
        "GenerateDataKey" if body["KeySpec"] == "AES_256" => {
            (["EncryptionContext", "KeyId", "KeySpec"], "KeySpec")
        }
        "Decrypt" => (["CiphertextBlob", "EncryptionContext", "KeyId"], "CiphertextBlob"),
        "Encrypt" => (["EncryptionContext", "KeyId", "Plaintext"], "Plaintext"),
        _ => return Err("action"),
    };
    let pairs = body["EncryptionContext"].as_object().ok_or("context")?;
    let uuid = |value: &Value| value.as_str().is_some_and(|text| uuid::Uuid::parse_str(text).is_ok());
    if members != wanted || !body[text].is_string() {
        return Err("members");
    }
    if !pairs.values().all(uuid)
        || !pairs.contains_key("credvault-vault")
        || !pairs.contains_key("credvault-master-key")
    {
        return Err("context");
    }
    Ok(Call { action: action.to_owned(), region: region.to_owned(), body })
}

async fn respond(answer: Answer) -> Response {
    match answer {
        Answer::Says(status, body) => json_response(status, body),
        Answer::Never => std::future::pending().await,
    }
}

fn json_response(status: u16, body: String) -> Response {
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amzn-requestid", "b2a7f0c4-0000-4000-8000-000000000001"),
    ];
    (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
}

/// What moto answers.
fn hand_on(headers: &HeaderMap, body: &[u8]) -> Response {
    let mut moto = TcpStream::connect(variable("CREDVAULT_MOTO")).unwrap();
    moto.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut request = format!("POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for name in ["host", "content-type", "x-amz-target", "x-amz-date", "authorization"] {
        request += &format!("{name}: {}\r\n", headers[name].to_str().unwrap());
    }
    moto.write_all(format!("{request}\r\n").as_bytes()).unwrap();
    moto.write_all(body).unwrap();
    let mut answer = String::new();
    moto.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    json_response(status, body.to_owned())
}
