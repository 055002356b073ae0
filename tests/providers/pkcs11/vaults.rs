//! A vault whose master key a token encrypts.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use credvault::provider::{KeyBytes, MasterKeyProvider};
use credvault::{ErrorKind, Vault};
use cryptoki::object::Attribute;

use super::softhsm::{PIN, Token};
use super::{context, refusal};
use crate::common::traces::{trace_everything, traced};
use crate::common::{Dialect, KeyFiles, TestDatabase, read_token, token};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_opens_with_the_tokens_key_alone() {
    let database = TestDatabase::create(Dialect::Sqlite).await;
    let (hsm, other) = (Token::new(), Token::new());
    let vault = database.create_vault(&hsm.uri()).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();
    vault.close().await;

    hsm.forget_calls();
    let vault = database.open_vault(&hsm.uri()).await;
    for _ in 0..20 {
        assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
    }
    assert_eq!(
        (hsm.calls("Login"), hsm.calls("Decrypt")),
        (1, 2),
        "one call, which asks for the length first"
    );

    let error = Vault::open(database.url(), &other.uri()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered, "{error}");
    let keys = KeyFiles::new();
    let error = Vault::open(database.url(), &keys.generate("a.key")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::KeyUnavailable, "{error}");
    // One that doesn't fit beside the one that does, in either order.
    for specs in [[other.uri(), hsm.uri()], [hsm.uri(), other.uri()]] {
        let builder = Vault::builder().url(database.url()).master_key(&specs[0]).unwrap();
        builder.master_key(&specs[1]).unwrap().build().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewrap_leads_from_a_key_file_to_a_token_to_its_next_key_and_back() {
    let database = TestDatabase::create(Dialect::Sqlite).await;
    let (keys, hsm) = (KeyFiles::new(), Token::new());
    hsm.add_key("next", &[Attribute::Id(vec![2])]);
    let next = hsm.uri_of(&format!("token={};object=next", hsm.label));
    let path = [keys.generate("a.key"), hsm.uri(), next, keys.generate("b.key")];

    let mut vault = database.create_vault(&path[0]).await;
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("t")).await.unwrap();
    for [from, to] in path.windows(2).map(|pair| [&pair[0], &pair[1]]) {
        vault.rewrap(credvault::provider::from_spec(to).unwrap()).run().await.unwrap();
        vault.close().await;
        let error = Vault::open(database.url(), from).await.unwrap_err();
        assert!([ErrorKind::KeyUnavailable, ErrorKind::Tampered].contains(&error.kind()), "{error}");
        vault = database.open_vault(to).await;
        assert_eq!(read_token(&vault.organization(organization), integration).await, "t");
    }
}

#[tokio::test]
async fn neither_pin_nor_key_nor_ciphertext_is_in_an_error_a_debug_or_a_trace() {
    trace_everything();
    let hsm = Token::new();
    let provider: Arc<dyn MasterKeyProvider> = credvault::provider::from_spec(&hsm.uri()).unwrap();
    let secret = *b"hunter2's key, all of 32 bytes..";
    let key = KeyBytes::copy_of(&secret).unwrap();
    let mut shown = format!("{provider:?}");
    hsm.fault("EncryptInit rv=0x30 2");
    let record = provider.wrap(&key, &context()).await.unwrap();
    shown += &format!("{record:?} {:?}", provider.unlock(&record, &context()).await.unwrap());
    for fault in ["Login rv=0xA4 1", "Login rv=0x30 1", "Decrypt rv=0x5 9", "DecryptInit rv=0x32 9"] {
        hsm.fault(fault);
        shown += &format!("{:?}", refusal(&hsm, &record, &context()).await);
    }
    hsm.fault("");
    let other = context().for_organization(Some(uuid::Uuid::nil().into()));
    shown += &format!("{:?}", refusal(&hsm, &record, &other).await);
    hsm.write_pin(&PIN.replace('2', "3"));
    shown += &format!("{:?}", refusal(&hsm, &record, &context()).await);

    let traced = String::from_utf8_lossy(&traced()).into_owned();
    assert!(traced.contains("asking again") && traced.contains(&hsm.label), "nothing was traced");
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let ciphertext = record.as_str().rsplit('$').next().unwrap();
    for text in [&shown, &traced] {
        for secret in [
            "hunter",
            &hex,
            &hex.to_uppercase(),
            &STANDARD.encode(secret),
            &URL_SAFE_NO_PAD.encode(secret),
            ciphertext,
        ] {
            assert!(!text.contains(secret), "{secret} is shown");
        }
        assert!(!text.contains("104, 117, 110, 116"), "the key is shown as numbers");
    }
}
