//! What is left in the process's memory after a call, by reading all of it.

use serde_json::Value;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::*;
use crate::credential::{Credential, CredentialType};
use crate::crypto::key::{DataKey, MasterKey, SealingKey};
use crate::crypto::key_bytes::{KEY_BYTES, KeyBytes};
use crate::crypto::memory::{WIPED_STACK_BYTES, with_wiped_stack};
use crate::crypto::memory_search::{Needle, stack_taken};
use crate::crypto::subkeys::{Purpose, tests::aead_key};
use crate::crypto::xaes::{NONCE_BYTES, vectors::message_key};
use crate::id::DataKeyId;

const KEY_ID: [u8; 16] = [7; 16];
const NONCE: [u8; NONCE_BYTES] = [9; NONCE_BYTES];

/// Rows of the service that was there before the vault.
const LEGACY_VECTORS: &str = include_str!("../../tests/vectors/legacy_vectors.json");

fn place() -> RowContext<'static> {
    RowContext {
        organization: Uuid::from_u128(1).into(),
        integration: Uuid::from_u128(2).into(),
        credential_type: "token",
    }
}

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
    let (raw, token) = (Needle::drawn(KEY_BYTES), Needle::drawn(40));

    let key = data_key(&raw);
    assert_eq!(raw.count(), 1, "a data key that is held is found");
    let key = key.into_sealing().unwrap();
    assert_eq!(raw.count(), 0, "sealing takes no raw key");
    let [aead, message] = derived(&raw, &key);
    assert_eq!(aead.count(), 1, "the key schedule begins with the key");

    let held = credential(&token);
    assert_eq!(token.count(), 1, "a credential that is held is found");
    let stored = seal_credential(&key, Nonce::chosen(NONCE), &place(), &held).unwrap();
    assert_eq!((token.count(), message.count()), (1, 0), "sealed");
    drop(held);
    assert_eq!(token.count(), 0, "dropped");

    let held = open_credential(&key.opening(), &place(), &stored, None).unwrap();
    assert_eq!((token.count(), message.count()), (1, 0), "opened");
    drop(held);
    assert_eq!(token.count(), 0, "dropped");

    reencrypt(&key.opening(), &key, Nonce::chosen(NONCE), &place(), &stored, None).unwrap();
    assert_eq!((token.count(), message.count()), (0, 0), "re-encrypted");
    drop(key);
    assert_eq!((raw.count(), aead.count()), (0, 0), "no key is held");
}

/// What is done with keys takes no more stack than is wiped after it: else the wipe is not the deepest that is written.
#[test]
fn more_stack_is_wiped_than_is_taken() {
    /// The frames of the functions around the work, and around the wipe.
    const FRAMES: usize = WIPED_STACK_BYTES / 12;

    let vectors: Value = serde_json::from_str(LEGACY_VECTORS).unwrap();
    let salt = vectors["encryption_salt"].as_str().unwrap();
    let old = vectors["rows"][0]["stored"].as_str().unwrap();
    let vault = Uuid::from_u128(3).into();
    let master = MasterKey::new(Uuid::from_u128(4).into(), KeyBytes::generate().unwrap());
    let wrap = WrapContext { vault, data_key: DataKeyId::from_bytes(KEY_ID), organization: None };
    let raw = Needle::drawn(KEY_BYTES);
    let key = data_key(&raw).into_sealing().unwrap();
    let legacy = DataKey::legacy(salt.as_bytes()).into_opening();
    let held = credential(&Needle::drawn(4_000));
    let stored = seal_credential(&key, Nonce::chosen(NONCE), &place(), &held).unwrap();
    let wrapped = wrap_key(&master, Nonce::chosen(NONCE), &wrap, &data_key(&raw)).unwrap();

    let taken = [
        ("nothing", stack_taken(|| with_wiped_stack(|| ()))),
        ("a master key", stack_taken(|| MasterKey::new(master.id(), KeyBytes::generate().unwrap()))),
        ("a key check", stack_taken(|| master.verify(vault, &master.key_check(vault)))),
        ("a data key", stack_taken(|| data_key(&raw).into_sealing())),
        ("the legacy key", stack_taken(|| DataKey::legacy(salt.as_bytes()).into_opening())),
        ("wrapping", stack_taken(|| wrap_key(&master, Nonce::chosen(NONCE), &wrap, &data_key(&raw)))),
        ("unwrapping", stack_taken(|| unwrap_key(&master, &wrap, &wrapped))),
        ("sealing", stack_taken(|| seal_credential(&key, Nonce::chosen(NONCE), &place(), &held))),
        ("opening", stack_taken(|| open_credential(&key.opening(), &place(), &stored, None))),
        ("a refusal", stack_taken(|| open_credential(&key.opening(), &place(), &stored[..900], None))),
        ("legacy", stack_taken(|| open_credential(&legacy, &place(), old, None))),
        (
            "re-encrypting",
            stack_taken(|| reencrypt(&key.opening(), &key, Nonce::chosen(NONCE), &place(), &stored, None)),
        ),
    ];
    println!("{taken:?}");
    for (what, bytes) in taken {
        assert!(bytes >= WIPED_STACK_BYTES, "{what}: the stack was looked at before it was used");
        assert!(bytes <= WIPED_STACK_BYTES + FRAMES, "{what} takes {bytes} bytes of {WIPED_STACK_BYTES}");
    }
}
