//! A vault whose master key a transit engine encrypts.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::{KeyBytes, MasterKeyProvider};
use serde_json::json;

use super::double::{Answer, actions, answer_with, fails, variable};
use super::{assert_says, context, key, refusal, rotate, spec};
use crate::common::traces::traced;
use crate::common::{Dialect, TestDatabase, read_token, token};
use crate::conformance::shown::Secrets;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_has_the_newest_version_encrypt_the_same_key_again() {
    let database = TestDatabase::create(Dialect::Sqlite).await;
    let key = key();
    let spec = spec(&key);
    let vault = database.create_vault(&spec).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();
    let before = database.dump().await;
    assert!(before.contains("$vault:v1:"));
    rotate(&key);
    actions(&key);
    assert!(vault.refresh_master_keys().await.unwrap()[0].refreshed);
    assert_eq!(actions(&key), ["decrypt", "keys", "encrypt", "decrypt", "decrypt"]);
    let after = database.dump().await;
    assert!(after.contains("$vault:v2:") && !after.contains("$vault:v1:"));
    let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after).count();
    assert_eq!(changed, 1, "the record alone");
    let vault = database.open_vault(&spec).await;
    assert_eq!(read_token(&vault.organization(organization), integration).await, "t");

    answer_with(&key, [fails(400, "encryption key not found")]);
    let error = vault.refresh_master_keys().await.unwrap_err();
    assert_says(&error, ErrorKind::KeyUnavailable, &["no such key"]);
    assert_eq!(database.dump().await, after);
}

#[tokio::test]
async fn neither_keys_nor_tokens_are_in_an_error_a_debug_or_a_trace() {
    let key = key();
    let provider: Arc<dyn MasterKeyProvider> = credvault::provider::from_spec(&spec(&key)).unwrap();
    let mut shown = format!("{provider:?}");
    // One that is given; and an answer that says another, whatever becomes of it.
    let given = *b"hunter2's key, all of 32 bytes..";
    let drawn = *b"the drawn key of all of 32 bytes";
    let token = std::fs::read_to_string(variable("VAULT_TOKEN_FILE")).unwrap();
    let secrets =
        Secrets::traced(vec![given.to_vec(), drawn.to_vec(), drawn[..31].to_vec(), token.trim().into()]);
    let record = provider.wrap(&KeyBytes::copy_of(&given).unwrap(), &context()).await.unwrap();
    shown += &format!("{record:?} {:?}", provider.unlock(&record, &context()).await.unwrap());
    let says = |length: usize| {
        Answer::Says(200, json!({"data": {"plaintext": STANDARD.encode(&drawn[..length])}}).to_string())
    };
    answer_with(&key, [fails(500, "internal error"), says(32), says(31), fails(403, "permission denied")]);
    shown += &format!("{:?}", provider.unlock(&record, &context()).await.unwrap());
    for _ in 0..2 {
        shown += &format!("{:?}", provider.unlock(&record, &context()).await.unwrap_err());
    }
    let other = context().for_organization(Some(uuid::Uuid::nil().into()));
    shown += &format!("{:?} {provider:?}", refusal(&key, &record, &other).await);

    secrets.assert_hidden(&shown);
    let traced = String::from_utf8_lossy(&traced()).into_owned();
    assert!(
        traced.contains("asking again") && traced.contains("TRACE") && traced.contains("hyper_util"),
        "no trace"
    );
}
