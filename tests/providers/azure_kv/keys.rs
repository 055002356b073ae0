//! Keys that are made, unlocked and wrapped again, and records that are none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credvault::ErrorKind;
use credvault::provider::{AzureKv, KeyBytes, MasterKeyProvider, ProviderContext, ProviderRecord};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

use super::double::{keys, take_calls};
use super::{Key, assert_says, context, version_of};

#[tokio::test]
async fn a_key_that_azure_wrapped_unlocks_again_by_one_call_each() {
    for (key, algorithm) in [(Key::rsa(), "RSA-OAEP-256"), (Key::hsm(), "A256KW")] {
        let provider = key.provider();
        let (_, record) = provider.create(&context()).await.unwrap();
        let begin = format!("azure-kv$v=1${algorithm}${}/{}$", key.url(), version_of(&record));
        assert!(record.as_str().starts_with(&begin), "{}", record.as_str());
        let again = provider.unlock(&record, &context()).await.unwrap();
        assert_eq!(again.id(), context().master_key_id);

        let calls = take_calls(&key.0);
        let calls: Vec<_> = calls.iter().map(|call| (call.action.as_str(), call.version.clone())).collect();
        let version = version_of(&record);
        assert_eq!(calls, [("challenge", String::new()), ("wrapkey", String::new()), ("unwrapkey", version)]);
    }
}

#[tokio::test]
async fn a_record_chooses_a_version_of_the_key_at_most() {
    let (ours, theirs) = (Key::rsa(), Key::rsa());
    let record = theirs.record().await;
    take_calls(&theirs.0);
    let error = ours.refusal(&record, &context()).await;
    assert_says(&error, ErrorKind::KeyUnavailable, &[&ours.url(), &theirs.url()]);
    assert!(take_calls(&theirs.0).is_empty() && take_calls(&ours.0).is_empty(), "a call was made");

    // A version that there is, and one that there isn't: neither opens it.
    let record = ours.record().await;
    let other = ours.rotate();
    for (version, kind) in [(other, ErrorKind::Tampered), ("0".repeat(32), ErrorKind::KeyUnavailable)] {
        let moved = ProviderRecord::new(record.as_str().replace(&version_of(&record), &version)).unwrap();
        assert_says(&ours.refusal(&moved, &context()).await, kind, &[&ours.url()]);
    }
}

#[tokio::test]
async fn a_version_that_is_given_wraps_and_others_go_on_opening() {
    let key = Key::hsm();
    let record = key.record().await;
    let (second, _third) = (key.rotate(), key.rotate());
    let pinned = AzureKv::new(&format!("{}/{second}", key.url())).unwrap();
    let (_, newer) = pinned.create(&context()).await.unwrap();
    assert_eq!(version_of(&newer), second);
    for provider in [&pinned, &key.provider()] {
        provider.unlock(&record, &context()).await.unwrap();
        provider.unlock(&newer, &context()).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_is_there_is_wrapped_again_and_under_another_key() {
    let bytes = KeyBytes::generate().unwrap();
    let [first, second] = [Key::rsa(), Key::hsm()];
    let mut records = Vec::new();
    for key in [&first, &first, &second] {
        let record = key.provider().wrap(&bytes, &context()).await.unwrap();
        key.provider().unlock(&record, &context()).await.unwrap();
        records.push(record.as_str().to_owned());
    }
    assert_ne!(records[0], records[1]);
    let calls = take_calls(&second.0);
    assert_eq!(calls[1].fields["value"], URL_SAFE_NO_PAD.encode(bytes.expose()));
}

/// The documented commitment, made by other code.
fn commitment(key: &[u8; 32], parts: [&[u8]; 5]) -> String {
    fn pae(parts: &[&[u8]]) -> Vec<u8> {
        let mut text = (parts.len() as u64).to_le_bytes().to_vec();
        for part in parts {
            text.extend((part.len() as u64).to_le_bytes());
            text.extend(*part);
        }
        text
    }
    let mut record_key = [0; 32];
    let info = pae(&[b"credvault/v1/provider-record"]);
    Hkdf::<Sha256>::new(None, key).expand(&info, &mut record_key).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&record_key).unwrap();
    mac.update(&pae(&parts));
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// A record of this master key, made with no more than the public half of the vault's key.
pub(super) fn forged(
    key: &Key,
    version: &str,
    master_key: &[u8],
    context: &ProviderContext,
    committed: bool,
) -> ProviderRecord {
    let value = URL_SAFE_NO_PAD.encode(master_key);
    let wrapped = keys("wrap-by-public-key", &json!({"key": key.0, "version": version, "value": value}));
    let wrapped = wrapped["value"].as_str().unwrap();
    let id = format!("{}/{version}", key.url());
    let commitment = if committed {
        let bytes = URL_SAFE_NO_PAD.decode(wrapped).unwrap();
        let context = context.associated_data();
        commitment(
            master_key.try_into().unwrap(),
            [b"azure-kv", b"RSA-OAEP-256", id.as_bytes(), &bytes, &context],
        )
    } else {
        URL_SAFE_NO_PAD.encode([7; 32])
    };
    ProviderRecord::new(format!("azure-kv$v=1$RSA-OAEP-256${id}${wrapped}${commitment}")).unwrap()
}

#[tokio::test]
async fn what_was_wrapped_with_the_public_key_alone_is_refused() {
    let key = Key::rsa();
    let version = version_of(&key.record().await);
    let record = forged(&key, &version, &[9; 32], &context(), false);
    assert_says(&key.refusal(&record, &context()).await, ErrorKind::Tampered, &["somebody else"]);
    for length in [0, 31, 33] {
        let record = forged(&key, &version, &vec![9; length], &context(), false);
        assert_says(&key.refusal(&record, &context()).await, ErrorKind::Tampered, &["no master key"]);
    }
    // Who knows the key in it commits it as the vault does; the vault's key check is what it fails, in `vaults`.
    key.provider().unlock(&forged(&key, &version, &[9; 32], &context(), true), &context()).await.unwrap();
}
