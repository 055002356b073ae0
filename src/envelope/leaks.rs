//! What is left in the process's memory after a call, by reading all of it.

use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;

use uuid::Uuid;
use zeroize::{Zeroize, Zeroizing};

use super::*;
use crate::credential::{Credential, CredentialType};
use crate::crypto::key::{DataKey, SealingKey};
use crate::crypto::key_bytes::{KEY_BYTES, KeyBytes};
use crate::crypto::memory::with_wiped_stack;
use crate::crypto::subkeys::{Purpose, tests::aead_key};
use crate::crypto::xaes::{NONCE_BYTES, vectors::message_key};
use crate::id::DataKeyId;

const KEY_ID: [u8; 16] = [7; 16];
const NONCE: [u8; NONCE_BYTES] = [9; NONCE_BYTES];

/// A secret to look for, kept with every bit flipped so that looking for it does not find itself.
struct Needle(Vec<u8>);

impl Needle {
    fn of(secret: &[u8]) -> Self {
        Self(secret.iter().map(|byte| !byte).collect())
    }

    /// A secret of the letters `a` to `p`, so that it can be a text, too.
    fn drawn(bytes: usize) -> Self {
        let mut needle = vec![0; bytes];
        crate::crypto::random::fill(&mut needle).unwrap();
        for byte in &mut needle {
            *byte = !(b'a' + (*byte & 15));
        }
        Self(needle)
    }

    /// The secret, in memory that is wiped.
    fn reveal(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.iter().map(|byte| !byte).collect())
    }

    /// How often the first 16 bytes stand in this process's memory.
    fn count(&self) -> usize {
        const WINDOW: usize = 1 << 16;
        let memory = File::open("/proc/self/mem").unwrap();
        let mut window = Zeroizing::new(vec![0; WINDOW]);
        let own = window.as_ptr() as u64;
        let mut count = 0;
        for line in read_to_string("/proc/self/maps").unwrap().lines() {
            let (range, rest) = line.split_once(' ').unwrap();
            if !rest.starts_with("rw") {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let [mut at, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
            while at + 16 <= end {
                let size = usize::try_from(end - at).unwrap().min(WINDOW);
                let Ok(()) = memory.read_exact_at(&mut window[..size], at) else {
                    break;
                };
                for (offset, found) in window[..size].windows(16).enumerate() {
                    let equal = found.iter().zip(&self.0).all(|(byte, flipped)| *byte == !flipped);
                    let address = at + offset as u64;
                    count += usize::from(equal && !(own..own + WINDOW as u64).contains(&address));
                }
                // The next window begins before the end of this one: a secret may lie across it.
                at += size as u64 - 15;
            }
            window.zeroize();
            window.resize(WINDOW, 0);
        }
        count
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
