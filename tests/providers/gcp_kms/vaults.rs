//! A vault whose master key KMS encrypts.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::provider::{KeyBytes, MasterKeyProvider};
use credvault::{ErrorKind, Vault};
use serde_json::json;

use super::counterpart::credentials;
use super::double::{Answer, actions, answer_with, crc32c, fails, take_calls};
use super::{assert_says, context, key, refusal, service};
use crate::common::traces::traced;
use crate::common::{Dialect, TestDatabase, read_token, token};
use crate::conformance::shown::Secrets;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rotation_a_refresh_lets_the_version_before_be_destroyed() {
    let database = TestDatabase::create(Dialect::Sqlite).await;
    let key = key();
    let spec = format!("gcp-kms:{key}");
    let vault = database.create_vault(&spec).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();
    let before = database.dump().await;
    assert!(before.contains("/cryptoKeyVersions/1$"));
    service::rotate(&key);
    database.open_vault(&spec).await.close().await;

    take_calls(&key);
    assert!(vault.refresh_master_keys().await.unwrap()[0].refreshed);
    assert_eq!(actions(&key), ["decrypt", "encrypt", "decrypt"]);
    let after = database.dump().await;
    let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after).count();
    assert_eq!(changed, 1, "the record alone");
    assert!(after.contains("/cryptoKeyVersions/2$"));

    service::set_state(&key, 1, "DESTROYED");
    let vault = database.open_vault(&spec).await;
    assert_eq!(read_token(&vault.organization(organization), integration).await, "t");

    service::set_state(&key, 2, "DISABLED");
    let error = Vault::open(database.url(), &spec).await.unwrap_err();
    assert_says(&error, ErrorKind::KeyUnavailable, &["DISABLED"]);
    let error = vault.refresh_master_keys().await.unwrap_err();
    assert_says(&error, ErrorKind::KeyUnavailable, &["DISABLED"]);
    assert_eq!(database.dump().await, after);
    assert_eq!(
        read_token(&vault.organization(organization), integration).await,
        "t",
        "an open vault goes on"
    );
}

#[tokio::test]
async fn neither_keys_nor_credentials_are_in_an_error_a_debug_or_a_trace() {
    // One that is given to KMS, and one that only KMS says, whole and cut.
    let given = *b"hunter2's key, all of 32 bytes..";
    let said = *b"the other key of all of 32 bytes";
    let keys = [given.to_vec(), said.to_vec(), said[..31].to_vec()];
    let secrets = Secrets::traced([&keys[..], &credentials()].concat());
    let key = key();
    let provider: Arc<dyn MasterKeyProvider> =
        credvault::provider::from_spec(&format!("gcp-kms:{key}")).unwrap();
    let mut shown = format!("{provider:?}");
    let record = provider.wrap(&KeyBytes::copy_of(&given).unwrap(), &context()).await.unwrap();
    shown += &format!("{record:?} {:?}", provider.unlock(&record, &context()).await.unwrap());
    let says = |length: usize| {
        let plaintext = &said[..length];
        let body = json!({"plaintext": STANDARD.encode(plaintext), "plaintextCrc32c": crc32c(plaintext).to_string()});
        Answer::Says(200, body.to_string())
    };
    answer_with(&key, [fails(500, "INTERNAL"), says(32), says(31)]);
    shown += &format!("{:?}", provider.unlock(&record, &context()).await.unwrap());
    shown += &format!("{:?}", provider.unlock(&record, &context()).await.unwrap_err());
    let other = context().for_organization(Some(uuid::Uuid::nil().into()));
    shown += &format!("{:?} {provider:?}", refusal(&key, &record, &other).await);
    secrets.assert_hidden(&shown);
    // Known only by now.
    let tokens = take_calls(&key).into_iter().map(|call| call.token.into_bytes()).collect();
    Secrets::traced(tokens).assert_hidden(&shown);
    let traced = String::from_utf8_lossy(&traced()).into_owned();
    assert!(
        traced.contains("asking again") && traced.contains("hyper_util"),
        "the SDK's parts aren't traced"
    );
}
