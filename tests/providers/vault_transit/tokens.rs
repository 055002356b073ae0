//! Tokens that are seen to after they were used.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::Method;
use credvault::ErrorKind;
use credvault::provider::MasterKeyProvider;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::double::{Answer, actions, answer_looks_with, answer_with, fails, take_calls, variable};
use super::{as_root, assert_says, context, is_once_more, key, once_more, provider, record_of, refusal};

/// How often a token was looked at, and renewed, since the last time that somebody asked.
pub(super) fn seen_to() -> [usize; 2] {
    ["lookup-self", "renew-self"].map(|call| take_calls(&format!("auth/token/{call}")).len())
}

/// What is done beside the calls is done.
pub(super) async fn idle() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let over = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), over).await.expect("what is beside the calls doesn't end");
}

/// Waits until a token was seen to, and holds that to `expected`.
pub(super) async fn renewed(expected: [usize; 2]) {
    idle().await;
    assert_eq!(seen_to(), expected);
}

/// A token of the tests' policy, and where it is.
fn token(settings: &Value) -> String {
    let mut settings = settings.clone();
    settings["policies"] = json!(["credvault-tests"]);
    let answer = as_root(Method::POST, "auth/token/create", &settings);
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

fn write_token(path: &Path, token: &str) {
    fs::write(path, format!("{token}\n")).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn a_token_in_a_file_is_looked_at_once_renewed_at_each_use_and_can_be_exchanged() {
    let test = "tokens::a_token_in_a_file_is_looked_at_once_renewed_at_each_use_and_can_be_exchanged";
    if !is_once_more() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("token");
        write_token(&path, &token(&json!({"ttl": "24h"})));
        return once_more(test, &[("VAULT_TOKEN_FILE", path.to_str().unwrap())]);
    }
    let path = variable("VAULT_TOKEN_FILE");
    let (path, key) = (Path::new(&path), key());
    let provider = provider(&key);
    let (_, record) = provider.create(&context()).await.unwrap();
    renewed([1, 1]).await;
    provider.unlock(&record, &context()).await.unwrap();
    renewed([0, 1]).await;

    let short = token(&json!({"ttl": "1h"}));
    write_token(path, &short);
    let last_renewal = || {
        as_root(Method::POST, "auth/token/lookup", &json!({"token": short}))["data"]["last_renewal"].clone()
    };
    assert_eq!(last_renewal(), Value::Null);
    provider.unlock(&record, &context()).await.unwrap();
    renewed([1, 1]).await;
    assert_ne!(last_renewal(), Value::Null);
    // It is not known how long it lasts if that isn't said: it unlocks all the same.
    answer_with("auth/token/renew-self", [fails(503, "sealed"), Answer::Says(200, "{}".into())]);
    for _ in 0..2 {
        provider.unlock(&record, &context()).await.unwrap();
        renewed([0, 1]).await;
    }

    as_root(Method::POST, "auth/token/revoke", &json!({"token": short}));
    actions(&key);
    let error = refusal(&key, &record, &context()).await;
    let policy = format!("path \"team/transit/decrypt/{key}\" {{ capabilities = [\"update\"] }}");
    assert_says(&error, ErrorKind::Refused, &["not valid any more", &policy]);
    assert_eq!(actions(&key), ["decrypt"]);
    write_token(path, &token(&json!({"ttl": "24h", "renewable": false})));
    provider.unlock(&record, &context()).await.unwrap();
    renewed([1, 0]).await;

    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    actions(&key);
    let error = provider.unlock(&record, &context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["mode 0644", "chmod 600"]);
    fs::remove_file(path).unwrap();
    let error = provider.unlock(&record, &context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Provider, &["can't be found"]);
    assert!(actions(&key).is_empty());
}

#[tokio::test]
async fn nobody_waits_for_a_token_to_be_seen_to_and_a_look_that_fails_is_made_again() {
    let test = "tokens::nobody_waits_for_a_token_to_be_seen_to_and_a_look_that_fails_is_made_again";
    if !is_once_more() {
        return once_more(test, &[("VAULT_TOKEN", &token(&json!({"ttl": "24h"})))]);
    }
    let key = key();
    let provider = provider(&key);
    let record = record_of(&key).await;
    renewed([1, 1]).await;
    answer_looks_with("auth/token/lookup-self", [Answer::Never, fails(500, "")]);
    for _ in 0..2 {
        let began = Instant::now();
        provider.unlock(&record, &context()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "it waited for the look");
        renewed([1, 0]).await;
    }
    answer_with("auth/token/renew-self", [Answer::Never]);
    let began = Instant::now();
    provider.unlock(&record, &context()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "it waited for the renewal");
    renewed([1, 1]).await;
    // It was looked at, which a renewal that hangs takes nothing from.
    provider.unlock(&record, &context()).await.unwrap();
    renewed([0, 1]).await;
    // Nor does who is cancelled take it from the others.
    let cancelled =
        tokio::time::timeout(Duration::from_millis(1), provider.unlock(&record, &context())).await;
    assert!(cancelled.is_err());
    provider.unlock(&record, &context()).await.unwrap();
}
