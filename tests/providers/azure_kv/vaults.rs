//! A vault whose master key Azure wraps.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use credvault::provider::{KeyBytes, MasterKeyProvider, ProviderContext};
use credvault::{ErrorKind, Vault};
use serde_json::json;
use uuid::Uuid;

use super::double::{ACCESS_TOKEN, Answer, answer_with, fails, variable};
use super::keys::forged;
use super::{Key, assert_says, context, version_of};
use crate::common::traces::{trace_everything, traced};
use crate::common::{Dialect, TestDatabase, read_token, token};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_key_is_found_out_before_a_row_is_touched() {
    let database = TestDatabase::create(Dialect::Sqlite).await;
    let key = Key::rsa();
    let vault = database.create_vault(&key.spec()).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();
    vault.close().await;
    let before = database.dump().await;

    // Azure's answer has other bytes than were wrapped.
    let record = database.fetch_one_text("SELECT provider_record FROM vault_master_keys").await.unwrap();
    let version = record.split('$').nth(3).unwrap().rsplit('/').next().unwrap().to_owned();
    let body = json!({"kid": format!("{}/{version}", key.url()), "value": URL_SAFE_NO_PAD.encode([7; 32])});
    answer_with(&key.0, [Answer::Says(200, body.to_string())]);
    let error = Vault::open(database.url(), &key.spec()).await.unwrap_err();
    assert_says(&error, ErrorKind::Tampered, &["altered"]);
    assert_eq!(database.dump().await, before);

    // Somebody writes a record of a key of theirs to the database: the commitment missing, and as it should be.
    let [vault_id, master_key_id] =
        ["SELECT vault_id FROM vault_identity", "SELECT id FROM vault_master_keys"];
    let id = async |sql: &str| Uuid::parse_str(&database.fetch_one_text(sql).await.unwrap()).unwrap();
    let context = ProviderContext::new(id(vault_id).await.into(), id(master_key_id).await.into());
    for (committed, kind) in [(false, ErrorKind::Tampered), (true, ErrorKind::KeyMismatch)] {
        let forged = forged(&key, &version, &[9; 32], &context, committed);
        database
            .execute(&format!("UPDATE vault_master_keys SET provider_record = '{}'", forged.as_str()))
            .await;
        let planted = database.dump().await;
        let error = Vault::open(database.url(), &key.spec()).await.unwrap_err();
        assert_says(&error, kind, &[]);
        assert_eq!(database.dump().await, planted);
    }
    database.execute(&format!("UPDATE vault_master_keys SET provider_record = '{record}'")).await;
    let vault = database.open_vault(&key.spec()).await;
    assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_after_a_rotation_has_the_newest_version_wrap_the_same_key() {
    for key in [Key::rsa(), Key::hsm()] {
        let database = TestDatabase::create(Dialect::Sqlite).await;
        let vault = database.create_vault(&key.spec()).await;
        let (organization, integration) = database.add_tenant().await;
        vault.organization(organization).put(integration, &token("t")).await.unwrap();
        let before = database.dump().await;
        let record = || database.fetch_one_text("SELECT provider_record FROM vault_master_keys");
        let first = record().await.unwrap();

        let newest = key.rotate();
        key.actions();
        assert!(vault.refresh_master_keys().await.unwrap()[0].refreshed);
        assert_eq!(key.actions(), ["unwrapkey", "wrapkey", "unwrapkey"]);
        let after = database.dump().await;
        let changed = before.lines().zip(after.lines()).filter(|(before, after)| before != after).count();
        assert_eq!(changed, 1, "the record alone");
        assert!(record().await.unwrap().contains(&newest));

        // The version before is not needed any more.
        let first = version_of(&credvault::provider::ProviderRecord::new(first).unwrap());
        key.enable(&first, false);
        let vault = database.open_vault(&key.spec()).await;
        assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
        key.enable(&newest, false);
        let error = vault.refresh_master_keys().await.unwrap_err();
        assert_says(&error, ErrorKind::KeyUnavailable, &["disabled"]);
        assert_eq!(database.dump().await, after);
    }
}

#[tokio::test]
async fn neither_keys_nor_credentials_are_in_an_error_a_debug_or_a_trace() {
    trace_everything();
    let key = Key::rsa();
    let provider: Arc<dyn MasterKeyProvider> = credvault::provider::from_spec(&key.spec()).unwrap();
    let mut shown = format!("{provider:?}");
    // One that is given; and one that Azure says, whatever becomes of it.
    let given = *b"hunter2's key, all of 32 bytes..";
    let said = *b"the drawn key of all of 32 bytes";
    let record = provider.wrap(&KeyBytes::copy_of(&given).unwrap(), &context()).await.unwrap();
    shown += &format!("{record:?} {:?}", provider.unlock(&record, &context()).await.unwrap());
    let says = |length: usize| {
        let kid = format!("{}/{}", key.url(), version_of(&record));
        Answer::Says(200, json!({"kid": kid, "value": URL_SAFE_NO_PAD.encode(&said[..length])}).to_string())
    };
    let html = Answer::Says(200, format!("<html>{}</html>", URL_SAFE_NO_PAD.encode(said)));
    answer_with(&key.0, [fails(500, "InternalServerError", None), says(32), says(31), html]);
    for _ in 0..3 {
        shown += &format!("{:?}", provider.unlock(&record, &context()).await.unwrap_err());
    }
    answer_with(&key.0, [fails(403, "Forbidden", Some("ForbiddenByRbac"))]);
    shown += &format!("{:?} {provider:?}", provider.create(&context()).await.unwrap_err());

    let traced = String::from_utf8_lossy(&traced()).into_owned();
    assert!(
        traced.contains("asking again")
            && traced.contains("TRACE")
            && traced.contains("typespec_client_core"),
        "no trace"
    );
    let secret = variable("AZURE_CLIENT_SECRET");
    for (place, text) in [("shown", &shown), ("traced", &traced)] {
        for secret in [&given[..], &said, &said[..31]] {
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            let numbers = secret[..8].iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
            let encoded = URL_SAFE_NO_PAD.encode(secret);
            let encoded_numbers =
                encoded.bytes().take(8).map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
            let text_of_it = String::from_utf8_lossy(&secret[..12]).into_owned();
            let standard = STANDARD.encode(secret)[..40].to_owned();
            for form in [
                hex.to_uppercase(),
                hex,
                numbers,
                encoded_numbers,
                encoded[..40].to_owned(),
                standard,
                text_of_it,
            ] {
                let around = text.find(&form).map(|at| &text[at.saturating_sub(400)..at]);
                assert_eq!(around, None, "{form} is {place}");
            }
        }
        for secret in [ACCESS_TOKEN, &secret] {
            let around = text.find(secret).map(|at| &text[at.saturating_sub(400)..at]);
            assert_eq!(around, None, "{secret} is {place}");
        }
    }
}
