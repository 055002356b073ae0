//! Keys that are made, unlocked and wrapped again, and records that are none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::{KeyBytes, MasterKeyProvider, ProviderRecord};

use super::double::{actions, crc32c, take_calls};
use super::{assert_says, context, key, provider, record_of, refusal, service};

#[tokio::test]
async fn a_key_that_was_drawn_here_unlocks_again_by_one_call_each() {
    let key = key();
    let (_, record) = provider(&key).create(&context()).await.unwrap();
    let begins = format!("gcp-kms$v=1${key}/cryptoKeyVersions/1$");
    assert!(record.as_str().starts_with(&begins), "{}", record.as_str());
    let again = provider(&key).unlock(&record, &context()).await.unwrap();
    assert_eq!(again.id(), context().master_key_id);

    let calls = take_calls(&key);
    assert_eq!(calls.iter().map(|call| call.action.as_str()).collect::<Vec<_>>(), ["encrypt", "decrypt"]);
    let bound = context().associated_data();
    for call in &calls {
        assert_eq!(call.body["additionalAuthenticatedData"], STANDARD.encode(&bound));
        assert_eq!(call.body["additionalAuthenticatedDataCrc32c"], crc32c(&bound).to_string());
    }
    let drawn = STANDARD.decode(calls[0].body["plaintext"].as_str().unwrap()).unwrap();
    assert_eq!(drawn.len(), 32);
    provider(&key).create(&context()).await.unwrap();
    assert_ne!(take_calls(&key)[0].body["plaintext"], calls[0].body["plaintext"], "a key was given twice");
}

#[tokio::test]
async fn a_record_never_says_which_key_is_called() {
    let (ours, theirs) = (key(), key());
    let record = record_of(&theirs).await;
    take_calls(&theirs);
    let error = refusal(&ours, &record, &context()).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &[&ours, &theirs]);
    assert!(take_calls(&theirs).is_empty() && take_calls(&ours).is_empty(), "a call was made");

    // One that says ours over their ciphertext is tried with ours.
    let relabelled = ProviderRecord::new(record.as_str().replace(&theirs, &ours)).unwrap();
    assert_says(&refusal(&ours, &relabelled, &context()).await, ErrorKind::Tampered, &[&ours, "another key"]);
    assert_eq!(actions(&ours), ["decrypt"]);
    assert!(take_calls(&theirs).is_empty(), "the ciphertext's key was called");
}

#[tokio::test]
async fn a_key_that_is_there_is_wrapped_again_under_the_primary_version() {
    let key = key();
    let bytes = KeyBytes::generate().unwrap();
    let first = provider(&key).wrap(&bytes, &context()).await.unwrap();
    let again = provider(&key).wrap(&bytes, &context()).await.unwrap();
    assert_ne!(first, again);
    service::rotate(&key);
    let rotated = provider(&key).wrap(&bytes, &context()).await.unwrap();
    assert!(rotated.as_str().contains("/cryptoKeyVersions/2$"), "{}", rotated.as_str());
    assert_eq!(take_calls(&key)[0].body["plaintext"], STANDARD.encode(bytes.expose()));
    for record in [&first, &rotated] {
        provider(&key).unlock(record, &context()).await.unwrap();
    }
}

#[tokio::test]
async fn a_version_that_is_disabled_or_destroyed_makes_its_records_alone_unavailable() {
    let key = key();
    let first = record_of(&key).await;
    service::rotate(&key);
    let second = record_of(&key).await;
    take_calls(&key);
    for (state, says) in [
        ("DISABLED", "enable it"),
        ("DESTROY_SCHEDULED", "restore it at once"),
        ("DESTROYED", "nobody can bring it back"),
    ] {
        service::set_state(&key, 1, state);
        let error = refusal(&key, &first, &context()).await;
        assert_says(&error, ErrorKind::KeyUnavailable, &[state, says, &key]);
        assert!(!error.is_retryable());
        assert_eq!(actions(&key).len(), 1, "{state} is no reason to ask again");
        provider(&key).unlock(&second, &context()).await.unwrap();
        take_calls(&key);
    }
    service::set_state(&key, 1, "ENABLED");
    provider(&key).unlock(&first, &context()).await.unwrap();

    service::set_state(&key, 2, "DISABLED");
    let error = provider(&key).create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::KeyUnavailable, &["useToEncrypt", "DISABLED"]);
}

#[tokio::test]
async fn a_key_that_is_not_there_is_said_to_be_unavailable() {
    let gone = key().replace("/k-", "/gone-");
    let error = provider(&gone).create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::KeyUnavailable, &["no such key", "useToEncrypt", &gone]);
    assert!(!error.is_retryable());
    assert_eq!(actions(&gone), ["encrypt"]);
}
