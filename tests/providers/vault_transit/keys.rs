//! Keys that are made, unlocked and wrapped again, and records that are none.

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::{KeyBytes, MasterKeyProvider, ProviderRecord, VaultTransit};
use serde_json::json;
use uuid::Uuid;

use super::double::{actions, make_old, take_calls};
use super::{
    as_root, assert_says, at, context, is_once_more, key, once_more, provider, record_of, refusal, rotate,
};

#[tokio::test]
async fn a_key_that_was_made_unlocks_again_by_one_call() {
    let key = key();
    let (_, record) = provider(&key).create(&context()).await.unwrap();
    assert!(record.as_str().starts_with(&format!("vault-transit$v=1${}$vault:v1:", at(&key))));
    // A token of the least policy may not look whether the key is there.
    // It is tried out that the context is authenticated.
    assert_eq!(actions(&key), ["keys", "encrypt", "decrypt"]);
    let again = provider(&key).unlock(&record, &context()).await.unwrap();
    assert_eq!(again.id(), context().master_key_id);
    let [call] = take_calls(&key).try_into().unwrap();
    assert_eq!(call.path, format!("team/transit/decrypt/{key}"));
    let bound = [context().associated_data(), at(&key).into_bytes()].concat();
    assert_eq!(call.body["associated_data"], STANDARD.encode(bound));
}

#[tokio::test]
async fn a_record_is_of_one_vault_master_key_and_organization() {
    let other = Uuid::from_u128(9);
    let mut another_vault = context();
    another_vault.vault_id = other.into();
    let mut another_key = context();
    another_key.master_key_id = other.into();
    for key in [key(), derived_key()] {
        let record = record_of(&key).await;
        provider(&key).unlock(&record, &context()).await.unwrap();
        for context in [another_vault, another_key, context().for_organization(Some(other.into()))] {
            let error = refusal(&key, &record, &context).await;
            assert_says(&error, ErrorKind::Tampered, &["decrypt", "another vault", &key]);
        }
        let organization = context().for_organization(Some(other.into()));
        let (_, record) = provider(&key).create(&organization).await.unwrap();
        provider(&key).unlock(&record, &organization).await.unwrap();
        assert_says(&refusal(&key, &record, &context()).await, ErrorKind::Tampered, &["organization"]);
    }
}

fn derived_key() -> String {
    let key = format!("k-{}", Uuid::new_v4());
    as_root(Method::POST, &format!("team/transit/keys/{key}"), &json!({"derived": true}));
    key
}

#[tokio::test]
async fn a_server_that_binds_nothing_to_its_ciphertexts_is_of_no_use() {
    let key = key();
    make_old(&key);
    let given = KeyBytes::generate().unwrap();
    for error in [
        provider(&key).create(&context()).await.map(|_| ()).unwrap_err(),
        provider(&key).wrap(&given, &context()).await.map(|_| ()).unwrap_err(),
    ] {
        assert_says(&error, ErrorKind::Unsupported, &["associated_data", "Vault 1.13 or newer", &at(&key)]);
        assert!(!error.is_retryable());
    }
    assert_eq!(actions(&key), ["keys", "encrypt", "decrypt"].repeat(2));

    // There a derived key binds what matters all the same.
    let derived = derived_key();
    make_old(&derived);
    let record = record_of(&derived).await;
    provider(&derived).unlock(&record, &context()).await.unwrap();
    let other = context().for_organization(Some(Uuid::from_u128(9).into()));
    assert_eq!(refusal(&derived, &record, &other).await.kind(), ErrorKind::Tampered);
}

#[tokio::test]
async fn who_wraps_a_key_must_have_the_right_to_unwrap_it() {
    if !is_once_more() {
        let policy = json!({"policy": "path \"team/transit/encrypt/*\" { capabilities = [\"update\"] }"});
        as_root(Method::POST, "sys/policies/acl/credvault-encrypts", &policy);
        let token = as_root(Method::POST, "auth/token/create", &json!({"policies": ["credvault-encrypts"]}));
        let token = token["auth"]["client_token"].as_str().unwrap();
        return once_more(
            "keys::who_wraps_a_key_must_have_the_right_to_unwrap_it",
            &[("VAULT_TOKEN", token)],
        );
    }
    let key = key();
    let error = provider(&key).create(&context()).await.unwrap_err();
    let policy = format!("path \"team/transit/decrypt/{key}\" {{ capabilities = [\"update\"] }}");
    assert_says(&error, ErrorKind::Refused, &[&policy]);
}

#[tokio::test]
async fn a_record_never_says_which_key_is_called() {
    let (ours, theirs) = (key(), key());
    let record = record_of(&theirs).await;
    take_calls(&theirs);
    let error = refusal(&ours, &record, &context()).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &[&at(&ours), &at(&theirs)]);
    assert!(take_calls(&theirs).is_empty(), "the record's key was called");
    assert_eq!(actions(&ours), ["decrypt"]);

    // A server that has another address now opens what it made, and no record may say of another that it was made here.
    let elsewhere = at(&ours).replace("127.0.0.1", "localhost");
    let (_, record) = VaultTransit::new(&elsewhere).unwrap().create(&context()).await.unwrap();
    provider(&ours).unlock(&record, &context()).await.unwrap();
    let moved = ProviderRecord::new(record.as_str().replace("localhost", "127.0.0.1")).unwrap();
    assert_says(&refusal(&ours, &moved, &context()).await, ErrorKind::Tampered, &["altered"]);
}

#[tokio::test]
async fn a_key_that_is_there_is_wrapped_again_by_the_newest_version() {
    let key = key();
    let bytes = KeyBytes::generate().unwrap();
    let first = provider(&key).wrap(&bytes, &context()).await.unwrap();
    assert!(first.as_str().contains("$vault:v1:"));
    rotate(&key);
    let second = provider(&key).wrap(&bytes, &context()).await.unwrap();
    assert!(second.as_str().contains("$vault:v2:"));
    take_calls(&key);
    for record in [&first, &second] {
        provider(&key).unlock(record, &context()).await.unwrap();
    }
    assert_eq!(actions(&key), ["decrypt", "decrypt"]);

    // Once the version before may open nothing more, it says so, and the newest opens.
    as_root(Method::POST, &format!("team/transit/keys/{key}/config"), &json!({"min_decryption_version": 2}));
    let error = refusal(&key, &first, &context()).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &["min_decryption_version", "version 1", "refresh"]);
    provider(&key).unlock(&second, &context()).await.unwrap();

    // As after a restore of an older backup of OpenBao.
    let ahead = ProviderRecord::new(second.as_str().replace("$vault:v2:", "$vault:v9:")).unwrap();
    assert_says(
        &refusal(&key, &ahead, &context()).await,
        ErrorKind::KeyUnavailable,
        &["version 9", "backup"],
    );
}

#[tokio::test]
async fn a_key_that_is_gone_or_of_no_use_is_said_to_be() {
    let record = record_of(&key()).await;
    let missing = format!("k-{}", Uuid::new_v4());
    let error = refusal(&missing, &record, &context()).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &[&at(&missing)]);
    // The least policy can't make it by mistake.
    let error = provider(&missing).create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::Refused, &["encrypt", "update"]);

    let key = key();
    let of_it = record_of(&key).await;
    as_root(Method::DELETE, &format!("team/transit/keys/{key}/soft-delete"), &json!({}));
    let error = refusal(&key, &of_it, &context()).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &[&at(&key)]);

    let rsa = format!("k-{}", Uuid::new_v4());
    as_root(Method::POST, &format!("team/transit/keys/{rsa}"), &json!({"type": "rsa-2048"}));
    let error = provider(&rsa).create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::InvalidInput, &["aes256-gcm96", &rsa]);
}
