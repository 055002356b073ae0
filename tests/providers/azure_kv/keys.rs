//! Keys that are made, unlocked and wrapped again, and records that are none.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credvault::ErrorKind;
use credvault::provider::{AzureKv, KeyBytes, MasterKeyProvider, ProviderContext, ProviderRecord};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use uuid::Uuid;

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

/// The documented encoding of parts.
fn pae(parts: &[&[u8]]) -> Vec<u8> {
    let mut text = (parts.len() as u64).to_le_bytes().to_vec();
    for part in parts {
        text.extend((part.len() as u64).to_le_bytes());
        text.extend(*part);
    }
    text
}

/// The documented MAC under a key that is derived from a master key, made by other code: `N` bytes are derived, and the last
/// 32 of them are its key.
fn mac<const N: usize>(master_key: &[u8; 32], info: &[&[u8]], parts: &[&[u8]]) -> [u8; 32] {
    let mut derived = [0; N];
    Hkdf::<Sha256>::new(None, master_key).expand(&pae(info), &mut derived).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&derived[N - 32..]).unwrap();
    mac.update(&pae(parts));
    mac.finalize().into_bytes().into()
}

/// The key check that stands beside a master key in the database.
pub(super) fn key_check(master_key: &[u8; 32], vault: Uuid, id: Uuid) -> [u8; 16] {
    let (vault, id) = (vault.as_bytes(), id.as_bytes());
    // Suite and object are those of a wrapped data key.
    let info: [&[u8]; 3] = [b"credvault/v1/subkeys", &[2, 2], id];
    let mac = mac::<96>(master_key, &info, &[b"credvault/v1/key-check", vault, id, b""]);
    mac[..16].try_into().unwrap()
}

/// What anybody makes of a master key who has the public half of the vault's key.
fn wrapped_by_anybody(key: &Key, version: &str, master_key: &[u8]) -> Vec<u8> {
    let value = URL_SAFE_NO_PAD.encode(master_key);
    let wrapped = keys("wrap-by-public-key", &json!({"key": key.0, "version": version, "value": value}));
    URL_SAFE_NO_PAD.decode(wrapped["value"].as_str().unwrap()).unwrap()
}

fn record(key: &Key, version: &str, wrapped: &[u8], commitment: [u8; 32]) -> ProviderRecord {
    let [wrapped, commitment] = [wrapped, &commitment].map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    let id = format!("{}/{version}", key.url());
    ProviderRecord::new(format!("azure-kv$v=1$RSA-OAEP-256${id}${wrapped}${commitment}")).unwrap()
}

/// A record of this master key, made with no more than the public half of the vault's key, without its commitment.
pub(super) fn forged(key: &Key, version: &str, master_key: &[u8]) -> ProviderRecord {
    record(key, version, &wrapped_by_anybody(key, version, master_key), [7; 32])
}

/// A record of this master key, made with no more than the public half of the vault's key, and committed for `context`.
pub(super) fn planted(
    key: &Key,
    version: &str,
    master_key: &[u8; 32],
    context: &ProviderContext,
) -> ProviderRecord {
    let wrapped = wrapped_by_anybody(key, version, master_key);
    let id = format!("{}/{version}", key.url());
    let parts: [&[u8]; 5] =
        [b"azure-kv", b"RSA-OAEP-256", id.as_bytes(), &wrapped, &context.associated_data()];
    let commitment = mac::<32>(master_key, &[b"credvault/v1/provider-record"], &parts);
    record(key, version, &wrapped, commitment)
}

#[tokio::test]
async fn what_was_wrapped_with_the_public_key_alone_is_refused() {
    let key = Key::rsa();
    let version = version_of(&key.record().await);
    let record = forged(&key, &version, &[9; 32]);
    assert_says(&key.refusal(&record, &context()).await, ErrorKind::Tampered, &["somebody else"]);
    for length in [0, 31, 33] {
        let record = forged(&key, &version, &vec![9; length]);
        assert_says(&key.refusal(&record, &context()).await, ErrorKind::Tampered, &["no master key"]);
    }
    // Who knows the key in it commits it as the vault does: what that leads to is in `vaults`.
    let planted = planted(&key, &version, &[9; 32], &context());
    key.provider().unlock(&planted, &context()).await.unwrap();
}
