//! Master keys under a key of a transit engine: OpenBao's, and a double in front of it that fails as it is told.

mod double;
mod faults;
mod keys;
mod logins;
mod manual;
mod servers;
mod vaults;

use std::process::Command;

use axum::http::{HeaderMap, Method};
use credvault::provider::{MasterKeyProvider, ProviderContext, ProviderRecord, VaultTransit};
use credvault::{Error, ErrorKind};
use serde_json::{Value, json};
use uuid::Uuid;

use double::variable;

fn context() -> ProviderContext {
    ProviderContext::new(Uuid::from_u128(1).into(), Uuid::from_u128(2).into())
}

/// What an administrator does at OpenBao itself, and what it answers.
fn as_root(method: Method, path: &str, body: &Value) -> Value {
    let token = variable("CREDVAULT_BAO_ROOT");
    administer(&variable("CREDVAULT_BAO"), &token, method, path, body)
}

fn administer(address: &str, token: &str, method: Method, path: &str, body: &Value) -> Value {
    let mut headers = HeaderMap::new();
    headers.insert("x-vault-token", token.parse().unwrap());
    let (status, answer) =
        double::http(address, &method, &format!("/v1/{path}"), &headers, body.to_string().as_bytes());
    assert!([200, 204].contains(&status), "{path}: {status} {answer}");
    if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).unwrap() }
}

/// The name of a fresh key of the engine at team/transit.
fn key() -> String {
    let key = format!("k-{}", Uuid::new_v4());
    as_root(Method::POST, &format!("team/transit/keys/{key}"), &json!({}));
    key
}

fn rotate(key: &str) {
    as_root(Method::POST, &format!("team/transit/keys/{key}/rotate"), &json!({}));
}

/// Where the double takes calls for `key`.
fn at(key: &str) -> String {
    format!("http://{}/team/transit/{key}", double::address())
}

fn spec(key: &str) -> String {
    format!("vault-transit:{}", at(key))
}

fn provider(key: &str) -> VaultTransit {
    VaultTransit::new(&at(key)).unwrap()
}

async fn record_of(key: &str) -> ProviderRecord {
    provider(key).create(&context()).await.unwrap().1
}

async fn refusal(key: &str, record: &ProviderRecord, context: &ProviderContext) -> Error {
    provider(key).unlock(record, context).await.unwrap_err()
}

/// The environment of a process that runs can't be changed: such a test runs itself once more, with these variables in the
/// place of all that say how to log in.
fn once_more(test: &str, variables: &[(&str, &str)]) {
    let name = format!("vault_transit::{test}");
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", &name, "--nocapture"]).env(ONCE_MORE, "yes").env_remove("VAULT_TOKEN_FILE");
    let output = again.envs(variables.iter().copied()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{name}: {said}");
}

const ONCE_MORE: &str = "CREDVAULT_TEST_ONCE_MORE";

fn is_once_more() -> bool {
    std::env::var_os(ONCE_MORE).is_some()
}

#[track_caller]
fn assert_says(error: &Error, kind: ErrorKind, says: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for said in says {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
    assert!(!format!("{error:?}").contains("hunter2"), "what Vault said is repeated: {error:?}");
}
