//! Keys that are made, unlocked and wrapped again, and records that are none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credvault::ErrorKind;
use credvault::provider::{KeyBytes, MasterKeyProvider, ProviderRecord};
use serde_json::json;
use uuid::Uuid;

use super::double::{Answer, answer_with, fails, take_calls};
use super::{assert_says, context, key, moto, provider, record_of, refusal};
use crate::conformance::shown::Secrets;

#[tokio::test]
async fn a_key_that_kms_made_unlocks_again_by_one_call_each() {
    let key = key().await;
    let (_, record) = provider(&key).create(&context()).await.unwrap();
    assert!(record.as_str().starts_with(&format!("aws-kms$v=1${key}$")), "{}", record.as_str());
    let again = provider(&key).unlock(&record, &context()).await.unwrap();
    assert_eq!(again.id(), context().master_key_id);

    let calls = take_calls(&key);
    let actions: Vec<&str> = calls.iter().map(|call| call.action.as_str()).collect();
    assert_eq!(actions, ["GenerateDataKey", "Decrypt"]);
    for call in calls {
        assert_eq!(call.body["EncryptionContext"].as_object().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn what_is_no_record_is_not_sent() {
    let key = key().await;
    let text = record_of(&key).await.as_str().to_owned();
    let begins = text.rfind('$').unwrap() + 1;
    take_calls(&key);
    for length in [0, 7, begins - 1, begins] {
        let cut = ProviderRecord::new(text[..length].to_owned()).unwrap();
        let error = refusal(&key, &cut, &context()).await;
        assert!([ErrorKind::Malformed, ErrorKind::Unsupported].contains(&error.kind()), "{length}: {error}");
    }
    assert!(take_calls(&key).is_empty());
}

#[tokio::test]
async fn a_key_that_kms_draws_is_not_shown_nor_most_of_one() {
    let key = key().await;
    let drawn = *b"the drawn key of all of 32 bytes";
    let secrets = Secrets::traced(vec![drawn.to_vec(), drawn[..31].to_vec()]);
    let says = |length: usize| {
        let (ciphertext, plaintext) = (STANDARD.encode([9; 180]), STANDARD.encode(&drawn[..length]));
        let body = json!({"KeyId": key, "Plaintext": plaintext, "CiphertextBlob": ciphertext});
        Answer::Says(200, body.to_string())
    };
    answer_with(&key, [fails(500, "KMSInternalException"), says(32), says(31)]);
    let made = provider(&key).create(&context()).await.unwrap();
    let refused = provider(&key).create(&context()).await.unwrap_err();
    secrets.assert_hidden(&format!("{made:?} {refused:?}"));
}

#[tokio::test]
async fn a_record_never_says_which_key_is_called() {
    let (ours, theirs) = (key().await, key().await);
    let record = record_of(&theirs).await;
    take_calls(&theirs);
    let error = refusal(&ours, &record, &context()).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &[&ours, &theirs]);
    assert!(take_calls(&theirs).is_empty() && take_calls(&ours).is_empty(), "a call was made");

    // By an alias, whose key isn't known beforehand, the alias is called, and the answer held to the record.
    let alias = format!("alias/{}", Uuid::new_v4());
    moto::client().await.create_alias().alias_name(&alias).target_key_id(&ours).send().await.unwrap();
    let record = record_of(&alias).await;
    let moved = ProviderRecord::new(record.as_str().replace(&ours, &theirs)).unwrap();
    take_calls(&alias);
    assert_says(&refusal(&alias, &moved, &context()).await, ErrorKind::Tampered, &[&ours, &theirs]);
    assert_eq!(take_calls(&alias).len(), 1);
    assert!(take_calls(&theirs).is_empty(), "the record's key was called");
}

#[tokio::test]
async fn an_alias_gives_its_keys_arn_and_follows_no_move() {
    let (first, second) = (key().await, key().await);
    let alias = format!("alias/credvault/{}", Uuid::new_v4());
    let moto = moto::client().await;
    moto.create_alias().alias_name(&alias).target_key_id(&first).send().await.unwrap();
    let (_, record) = provider(&alias).create(&context()).await.unwrap();
    assert!(record.as_str().contains(&first), "{}", record.as_str());
    provider(&alias).unlock(&record, &context()).await.unwrap();
    assert!(take_calls(&alias).iter().all(|call| call.body["KeyId"] == alias.as_str()));

    moto.update_alias().alias_name(&alias).target_key_id(&second).send().await.unwrap();
    // As AWS answers a Decrypt whose KeyId isn't the ciphertext's; moto looks at no KeyId.
    answer_with(&alias, [fails(400, "IncorrectKeyException")]);
    assert_says(
        &refusal(&alias, &record, &context()).await,
        ErrorKind::KeyUnavailable,
        &["alias was moved", "rewrap"],
    );
    // The ARN of the key before opens it.
    provider(&first).unlock(&record, &context()).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_there_is_wrapped_again_and_under_another_key() {
    let (first, second) = (key().await, key().await);
    let bytes = KeyBytes::generate().unwrap();
    let mut ciphertexts = Vec::new();
    for key in [&first, &first, &second] {
        let record = provider(key).wrap(&bytes, &context()).await.unwrap();
        provider(key).unlock(&record, &context()).await.unwrap();
        ciphertexts.push(record.as_str().to_owned());
    }
    assert_ne!(ciphertexts[0], ciphertexts[1]);
    let calls = take_calls(&second);
    assert_eq!(calls[0].body["Plaintext"], STANDARD.encode(bytes.expose()));
    let actions: Vec<&str> = calls.iter().map(|call| call.action.as_str()).collect();
    assert_eq!(actions, ["Encrypt", "Decrypt"]);
}

#[tokio::test]
async fn the_region_of_an_arn_goes_before_the_environments() {
    let key = key().await;
    record_of(&key).await;
    assert_eq!(take_calls(&key)[0].region, "us-east-1");
    let elsewhere = key.replace("us-east-1", "eu-west-1");
    provider(&elsewhere).create(&context()).await.unwrap_err();
    assert_eq!(take_calls(&elsewhere)[0].region, "eu-west-1");
    // An alias alone is of the environment's.
    provider("alias/of-no-key").create(&context()).await.unwrap_err();
    assert_eq!(take_calls("alias/of-no-key")[0].region, "us-east-1");
}

#[tokio::test]
async fn a_key_that_is_not_there_is_said_to_be_unavailable() {
    let gone = key().await.replace(":key/", ":key/00");
    let error = provider(&gone).create(&context()).await.unwrap_err();
    assert_says(&error, ErrorKind::KeyUnavailable, &["no such key", "kms:GenerateDataKey", &gone]);
    assert!(!error.is_retryable());
    assert_eq!(take_calls(&gone).len(), 1);
}
