//! What is left in the process's memory after a call, by reading all of it.

use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::credential::{Credential, CredentialType};
use crate::crypto::key::{DataKey, SealingKey};
use crate::crypto::key_bytes::{KEY_BYTES, KeyBytes};
use crate::crypto::memory::with_wiped_stack;
use crate::crypto::memory_search::Needle;
use crate::crypto::subkeys::{Purpose, tests::aead_key};
use crate::crypto::xaes::{NONCE_BYTES, vectors::message_key};
use crate::id::DataKeyId;

const KEY_ID: [u8; 16] = [7; 16];
const NONCE: [u8; NONCE_BYTES] = [9; NONCE_BYTES];

/// A data key with the bytes of `needle`.
fn data_key(needle: &Needle) -> DataKey {
    let bytes = KeyBytes::copy_of(&needle.reveal()).unwrap();
    DataKey::new(DataKeyId::from_bytes(KEY_ID), None, bytes)
}

fn credential(needle: &Needle) -> Credential {
    let token = needle.reveal();
    let token = std::str::from_utf8(&token).unwrap();
    Credential::new(CredentialType::token()).with_field("access_token", token)
}

/// What is derived for the message under `NONCE`, and the key that it is derived from.
fn derived(needle: &Needle, key: &SealingKey) -> [Needle; 2] {
    with_wiped_stack(|| {
        let bytes: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(needle.reveal()[..].try_into().unwrap());
        [
            Needle::of(&*aead_key(&bytes, Purpose::Row, &KEY_ID)),
            Needle::of(&*message_key(key.cipher(), &NONCE)),
        ]
    })
}

#[test]
fn no_key_or_token_is_left_in_memory_after_a_call() {
    let place = RowContext {
        organization: Uuid::from_u128(1).into(),
        integration: Uuid::from_u128(2).into(),
        credential_type: "token",
    };
    let (raw, token) = (Needle::drawn(KEY_BYTES), Needle::drawn(40));

    let key = data_key(&raw);
    assert_eq!(raw.count(), 1, "a data key that is held is found");
    let key = key.into_sealing().unwrap();
    assert_eq!(raw.count(), 0, "sealing takes no raw key");
    let [aead, message] = derived(&raw, &key);
    assert_eq!(aead.count(), 1, "the key schedule begins with the key");

    let held = credential(&token);
    assert_eq!(token.count(), 1, "a credential that is held is found");
    let stored = seal_credential(&key, Nonce::chosen(NONCE), &place, &held).unwrap();
    assert_eq!((token.count(), message.count()), (1, 0), "sealed");
    drop(held);
    assert_eq!(token.count(), 0, "dropped");

    let held = open_credential(&key.opening(), &place, &stored, None).unwrap();
    assert_eq!((token.count(), message.count()), (1, 0), "opened");
    drop(held);
    assert_eq!(token.count(), 0, "dropped");

    reencrypt(&key.opening(), &key, Nonce::chosen(NONCE), &place, &stored, None).unwrap();
    assert_eq!((token.count(), message.count()), (0, 0), "re-encrypted");
    drop(key);
    assert_eq!((raw.count(), aead.count()), (0, 0), "no key is held");
}
