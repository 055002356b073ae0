//! Google's token service, a metadata server and Cloud KMS at one address: holds each request to what Google documents, and
//! answers as a test says, or else as the service does.
//!
//! KMS speaks JSON over HTTP, as `cloudkms.googleapis.com`, version 1, documents it; an integer of 64 bits is a string and
//! bytes are base64, as in every API of Google's (<https://protobuf.dev/programming-guides/json/>).

use std::collections::{HashMap, VecDeque};
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::SignatureScheme;
use serde_json::{Value, json};

use super::service;
pub(super) use crate::double::Answer;
use crate::double::{Double, serve};

/// A request as it came, with the token that it came with.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) action: String,
    pub(super) token: String,
    pub(super) body: Value,
}

/// Where the token service is: at this path, or below it at one of a test's own. Calls are kept, and answers asked for, by the
/// path in place of a key's name.
pub(super) const TOKENS: &str = "/token";

/// Where a metadata server is, at the root or below a path of a test's own; and what it is asked for. Kept by the whole path.
const METADATA: &str = "/computeMetadata/v1/";
pub(super) const MACHINES_TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
pub(super) const UNIVERSE: &str = "/computeMetadata/v1/universe/universe-domain";

/// What happens to a message on its way.
pub(super) type Accident = fn(&mut Value);

/// What happens to the next requests, and to their answers.
type Accidents = VecDeque<(Accident, Accident)>;

static DOUBLE: OnceLock<Double<Call>> = OnceLock::new();
static GIVEN_TOKENS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static ACCIDENTS: LazyLock<Mutex<HashMap<String, Accidents>>> = LazyLock::new(Mutex::default);

pub(super) fn variable(name: &str) -> String {
    env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run these tests by tests/providers/run gcp-kms"))
}

pub(super) fn file(name: &str) -> PathBuf {
    PathBuf::from(variable("CREDVAULT_GCP_FILES")).join(name)
}

/// The double, started at the first call.
pub(super) fn started() -> &'static Double<Call> {
    DOUBLE.get_or_init(|| {
        let listener = TcpListener::bind(variable("CREDVAULT_GCP_DOUBLE")).unwrap();
        serve(listener, Router::new().fallback(answer));
        Double::default()
    })
}

/// An error as Google words it.
pub(super) fn fails(status: u16, code: &str) -> Answer {
    Answer::Says(status, error(status, code, "hunter2 of the message", None).to_string())
}

/// The same with the reason that an `ErrorInfo` gives.
pub(super) fn fails_by(status: u16, code: &str, reason: &str) -> Answer {
    Answer::Says(status, error(status, code, "hunter2 of the message", Some(reason)).to_string())
}

fn error(status: u16, code: &str, message: &str, reason: Option<&str>) -> Value {
    let mut error = json!({"error": {"code": status, "message": message, "status": code}});
    if let Some(reason) = reason {
        error["error"]["details"] = json!([{
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason,
            "domain": "cloudkms.googleapis.com",
            "metadata": {"consumer": "projects/hunter2"},
        }]);
    }
    error
}

/// From here on, calls for `key` get these answers, one each, and after them the service's.
pub(super) fn answer_with(key: &str, answers: impl IntoIterator<Item = Answer>) {
    started().answer_with(key, answers);
}

/// The calls for `key` since the last time that somebody asked.
pub(super) fn take_calls(key: &str) -> Vec<Call> {
    started().take_calls(key)
}

pub(super) fn actions(key: &str) -> Vec<String> {
    take_calls(key).into_iter().map(|call| call.action).collect()
}

/// The next calls for `key` meet these accidents, one each: to the request, and to the answer of the service.
pub(super) fn have_accidents(key: &str, accidents: impl IntoIterator<Item = (Accident, Accident)>) {
    ACCIDENTS.lock().unwrap().insert(key.to_owned(), accidents.into_iter().collect());
}

pub(super) fn nothing(_: &mut Value) {}

async fn answer(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let as_documented = match (&method, uri.path()) {
        (&Method::POST, path) if path.starts_with(TOKENS) => tokens_for_a_user(path, &headers, &body),
        (&Method::GET, path) if path.contains(METADATA) => metadata(path, &headers),
        (&Method::POST, path) if path.starts_with("/v1/") => kms(&uri, &headers, &body),
        _ => Err("REQUEST_LINE"),
    };
    // A reason that the provider repeats.
    match as_documented.unwrap_or_else(|what| {
        let reason = format!("NOT_AS_DOCUMENTED_{what}");
        fails_by(501, "UNIMPLEMENTED", &reason)
    }) {
        Answer::Says(status, body) => {
            let headers =
                [("content-type", "application/json; charset=UTF-8"), ("metadata-flavor", "Google")];
            (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
        }
        Answer::Never => std::future::pending().await,
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// OAuth 2.0's refresh token grant (RFC 6749, 6).
fn tokens_for_a_user(path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Answer, &'static str> {
    if header(headers, "content-type") != "application/json" {
        return Err("CONTENT_TYPE");
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| "BODY")?;
    let user: Value = serde_json::from_slice(&fs::read(file("user.json")).unwrap()).unwrap();
    if body["grant_type"] != "refresh_token" {
        return Err("GRANT_TYPE");
    }
    let call = Call { action: "token".to_owned(), token: String::new(), body: body.clone() };
    if let Some(answer) = started().next(path, call) {
        return Ok(answer);
    }
    let is_the_users =
        ["client_id", "client_secret", "refresh_token"].iter().all(|name| body[name] == user[name]);
    Ok(match is_the_users {
        true => Answer::Says(200, fresh_token()),
        false => {
            Answer::Says(400, json!({"error": "invalid_grant", "error_description": "hunter2"}).to_string())
        }
    })
}

fn fresh_token() -> String {
    let token = format!("ya29.hunter2-{}", uuid::Uuid::new_v4());
    GIVEN_TOKENS.lock().unwrap().push(token.clone());
    json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer", "scope": "cloud-platform"})
        .to_string()
}

/// What a machine of Google's has beside each process.
fn metadata(path: &str, headers: &HeaderMap) -> Result<Answer, &'static str> {
    if header(headers, "metadata-flavor") != "Google" {
        return Err("METADATA_FLAVOR");
    }
    let call = Call { action: "metadata".to_owned(), token: String::new(), body: Value::Null };
    if let Some(answer) = started().next(path, call) {
        return Ok(answer);
    }
    match path {
        path if path.ends_with(MACHINES_TOKEN) => Ok(Answer::Says(200, fresh_token())),
        path if path.ends_with(UNIVERSE) => Ok(Answer::Says(200, "googleapis.com".to_owned())),
        path if path.ends_with("/instance/service-accounts/default/email") => {
            Ok(Answer::Says(200, "credvault@example.com".to_owned()))
        }
        _ => Err("METADATA_PATH"),
    }
}

fn kms(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<Answer, &'static str> {
    let (key, action) =
        uri.path().strip_prefix("/v1/").and_then(|path| path.rsplit_once(':')).ok_or("PATH")?;
    let segments: Vec<&str> = key.split('/').collect();
    let ["projects", _, "locations", _, "keyRings", _, "cryptoKeys", _] = segments[..] else {
        return Err("NAME");
    };
    // The one of the system parameters that the SDK sends: enumerations as numbers.
    if !matches!(uri.query(), None | Some("%24alt=json%3Benum-encoding%3Dint")) {
        return Err("QUERY");
    }
    if header(headers, "content-type") != "application/json" {
        return Err("CONTENT_TYPE");
    }
    let token = header(headers, "authorization").strip_prefix("Bearer ").ok_or("AUTHORIZATION")?;
    if !GIVEN_TOKENS.lock().unwrap().iter().any(|given| given == token) && !is_a_service_accounts(token) {
        return Ok(fails(401, "UNAUTHENTICATED"));
    }

    let mut body: Value = serde_json::from_slice(body).map_err(|_| "BODY")?;
    let mut members: Vec<&str> = body.as_object().ok_or("BODY")?.keys().map(String::as_str).collect();
    members.sort_unstable();
    let text = match action {
        "encrypt" => "plaintext",
        "decrypt" => "ciphertext",
        _ => return Err("ACTION"),
    };
    let text_checksum = format!("{text}Crc32c");
    let mut wanted =
        ["additionalAuthenticatedData", "additionalAuthenticatedDataCrc32c", text, text_checksum.as_str()];
    wanted.sort_unstable();
    if members != wanted {
        return Err("MEMBERS");
    }
    for checksum in ["additionalAuthenticatedDataCrc32c", &text_checksum] {
        let digits = body[checksum].as_str().ok_or("CHECKSUM_FORM")?;
        digits.parse::<u32>().map_err(|_| "CHECKSUM_FORM")?;
    }
    let call = Call { action: action.to_owned(), token: token.to_owned(), body: body.clone() };
    if let Some(answer) = started().next(key, call) {
        return Ok(answer);
    }

    let accident = ACCIDENTS.lock().unwrap().get_mut(key).and_then(VecDeque::pop_front);
    let (to_the_request, to_the_answer) = accident.unwrap_or((nothing, nothing));
    to_the_request(&mut body);
    let decoded = |name: &str| STANDARD.decode(body[name].as_str().unwrap_or_default()).map_err(|_| "BASE64");
    let (bytes, bound) = (decoded(text)?, decoded("additionalAuthenticatedData")?);
    for (name, bytes) in [(text, &bytes), ("additionalAuthenticatedData", &bound)] {
        // Without one, nothing is verified, and the answer says so.
        if body[format!("{name}Crc32c")].as_str().is_some_and(|sent| sent != crc32c(bytes).to_string()) {
            let what = format!(
                "The checksum in field {name}_crc32c did not match the data in field {name}. hunter2"
            );
            return Ok(Answer::Says(400, error(400, "INVALID_ARGUMENT", &what, None).to_string()));
        }
    }
    let answer = match action {
        "encrypt" => service::encrypt(key, &bytes, &bound).map(|(version, ciphertext)| {
            json!({
                "name": version,
                "ciphertext": STANDARD.encode(&ciphertext),
                "ciphertextCrc32c": crc32c(&ciphertext).to_string(),
                "verifiedPlaintextCrc32c": body["plaintextCrc32c"].is_string(),
                "verifiedAdditionalAuthenticatedDataCrc32c": body["additionalAuthenticatedDataCrc32c"].is_string(),
                "protectionLevel": 1,
            })
        }),
        _ => service::decrypt(key, &bytes, &bound).map(|(plaintext, is_primary)| {
            json!({
                "plaintext": STANDARD.encode(&plaintext),
                "plaintextCrc32c": crc32c(&plaintext).to_string(),
                "usedPrimary": is_primary,
                "protectionLevel": 1,
            })
        }),
    };
    Ok(match answer {
        Ok(mut answer) => {
            to_the_answer(&mut answer);
            Answer::Says(200, answer.to_string())
        }
        Err((status, code, message)) => Answer::Says(status, error(status, code, &message, None).to_string()),
    })
}

/// A token that a service account signs by itself (RFC 7523, and `google.aip.dev/auth/4111`), by its public key.
fn is_a_service_accounts(token: &str) -> bool {
    let parts: Vec<&str> = token.split('.').collect();
    let [head, claims, signature] = parts[..] else { return false };
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    let json = |part: &str| serde_json::from_slice::<Value>(&decoded(part)).unwrap_or_default();
    let (head, claims_json) = (json(head), json(claims));
    let email = "credvault@credvault-test.iam.gserviceaccount.com";
    if head["alg"] != "RS256" || claims_json["iss"] != email || claims_json["sub"] != email {
        return false;
    }
    if claims_json["scope"] != "https://www.googleapis.com/auth/cloud-platform" {
        return false;
    }
    let public = fs::read(file("public.der")).unwrap();
    let message = &token[..token.len() - signature.len() - 1];
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let (_, rsa) =
        algorithms.mapping.iter().find(|(scheme, _)| *scheme == SignatureScheme::RSA_PKCS1_SHA256).unwrap();
    rsa[0].verify_signature(&public, message.as_bytes(), &decoded(signature)).is_ok()
}

/// CRC32C (RFC 3720, 12.1), a bit at a time.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}
