//! What holds for any credential and any text.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use secrecy::ExposeSecret;
use uuid::Uuid;

use super::*;
use crate::clock::Timestamp;
use crate::credential::{Credential, CredentialType};
use crate::crypto::key::{DataKey, MasterKey, OpeningKey, SealingKey};
use crate::crypto::key_bytes::KeyBytes;
use crate::id::DataKeyId;

/// A key and a place to seal to.
fn keys() -> (SealingKey, OpeningKey) {
    let sealing = DataKey::generate(None).unwrap().into_sealing().unwrap();
    let opening = sealing.opening();
    (sealing, opening)
}

fn place() -> RowContext<'static> {
    RowContext {
        organization: Uuid::from_u128(1).into(),
        integration: Uuid::from_u128(2).into(),
        credential_type: "token",
    }
}

fn nonce() -> Nonce {
    Nonce::draw().unwrap()
}

fn credential(fields: &BTreeMap<String, String>, expiry: Option<Timestamp>) -> Credential {
    let empty =
        Credential::new(CredentialType::token()).with_expiry(expiry.map(Timestamp::to_offset_date_time));
    fields.iter().fold(empty, |credential, (name, value)| credential.with_field(name, value.as_str()))
}

/// Any fields, of lengths on both sides of the smallest buckets.
fn any_fields() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(".{0,12}", ".{0,80}", 0..6)
}

fn any_expiry() -> impl Strategy<Value = Option<Timestamp>> {
    let microseconds = -62_135_596_800_000_000..=253_402_300_799_999_999_i64;
    proptest::option::of(microseconds.prop_map(|us| Timestamp::from_microseconds(us).unwrap()))
}

fn holds(opened: &Credential, fields: &BTreeMap<String, String>, expiry: Option<Timestamp>) -> bool {
    let found: BTreeMap<_, _> =
        opened.fields().map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned())).collect();
    found == *fields && opened.expiry().unwrap() == expiry
}

fn payload_of(credential: &Credential) -> Vec<u8> {
    let payload = payload::Payload::of(credential).unwrap();
    let mut buffer = vec![0; payload.padded_bytes()];
    payload.write_to(&mut buffer);
    buffer
}

proptest! {
    #[test]
    fn what_is_sealed_opens_to_itself(fields in any_fields(), expiry in any_expiry()) {
        let (sealing, opening) = keys();
        let stored = seal_credential(&sealing, nonce(), &place(), &credential(&fields, expiry)).unwrap();
        prop_assert_eq!(key_of(&stored, &sealing.id().to_string()).unwrap(), sealing.id());
        prop_assert!(holds(&open_credential(&opening, &place(), &stored, None).unwrap(), &fields, expiry));

        let (next_sealing, next_opening) = keys();
        let moved = reencrypt(&opening, &next_sealing, nonce(), &place(), &stored, None).unwrap();
        prop_assert_eq!(moved.len(), stored.len());
        prop_assert!(holds(&open_credential(&next_opening, &place(), &moved, None).unwrap(), &fields, expiry));
        prop_assert!(open_credential(&opening, &place(), &moved, None).is_err());
    }

    #[test]
    fn any_text_is_refused_without_panicking(text in any::<String>(), prefixed in "cv1\\.[A-Za-z0-9_-]{0,300}") {
        let (_, opening) = keys();
        let legacy = DataKey::legacy(b"salt").into_opening();
        let master = MasterKey::new(Uuid::from_u128(3).into(), KeyBytes::generate().unwrap());
        let context = WrapContext {
            vault: Uuid::from_u128(4).into(),
            data_key: DataKeyId::LEGACY,
            organization: None,
        };
        for text in [text, prefixed] {
            prop_assert!(open_credential(&opening, &place(), &text, None).is_err());
            prop_assert!(open_credential(&legacy, &place(), &text, None).is_err());
            prop_assert!(unwrap_key(&master, &context, &text).is_err());
            let _ = wrapping_key_of(&text);
            for column in ["v1", "", "0191f0a0-7c5e-7aaa-8bbb-0123456789ab"] {
                let _ = key_of(&text, column);
            }
        }
    }

    #[test]
    fn whatever_decodes_is_encoded_to_the_same_bytes(
        fields in any_fields(),
        expiry in any_expiry(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        noise in vec(any::<u8>(), 0..300),
    ) {
        let mut changed = payload_of(&credential(&fields, expiry));
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        for bytes in [changed, noise] {
            let decoded = payload::decode(&bytes, CredentialType::token());
            prop_assert_eq!(payload::validate(&bytes).is_ok(), decoded.is_ok());
            if let Ok(decoded) = decoded {
                prop_assert_eq!(payload_of(&decoded), bytes);
            }
        }
    }
}

/// One stored credential with what opens it.
fn stored() -> (OpeningKey, String) {
    let (sealing, opening) = keys();
    let fields = BTreeMap::from([("access_token".to_owned(), "ghs_".to_owned() + &"x".repeat(36))]);
    let stored = seal_credential(&sealing, nonce(), &place(), &credential(&fields, None)).unwrap();
    (opening, stored)
}

#[test]
fn a_row_with_any_bit_changed_never_opens() {
    let (opening, stored) = stored();
    assert!(open_credential(&opening, &place(), &stored, None).is_ok());
    for bit in 0..stored.len() * 8 {
        let mut changed = stored.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        // Text with the highest bit of a byte set is no text: a database would not even hold it.
        let Ok(changed) = String::from_utf8(changed) else {
            continue;
        };
        assert!(open_credential(&opening, &place(), &changed, None).is_err(), "bit {bit}");
    }
    let sealed = text::decode(&stored, crate::crypto::subkeys::Purpose::Row).unwrap();
    let sealed = sealed.expose_secret();
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(open_credential(&opening, &place(), &text::encode(&changed), None).is_err(), "bit {bit}");
    }
}

#[test]
fn a_row_cut_short_or_extended_never_opens() {
    let (opening, stored) = stored();
    for end in 0..stored.len() {
        assert!(open_credential(&opening, &place(), &stored[..end], None).is_err(), "{end}");
        let cut = &stored[stored.len() - end..];
        assert!(open_credential(&opening, &place(), cut, None).is_err(), "from the end, {end}");
    }
    for end in ["A", "AA", "AAAA", "=", "\0", " "] {
        assert!(open_credential(&opening, &place(), &(stored.clone() + end), None).is_err(), "{end:?}");
    }
}

#[test]
fn a_wrapped_key_with_any_bit_changed_or_cut_short_never_unwraps() {
    let master = MasterKey::new(Uuid::from_u128(3).into(), KeyBytes::generate().unwrap());
    let key = DataKey::generate(None).unwrap();
    let context = WrapContext { vault: Uuid::from_u128(4).into(), data_key: key.id(), organization: None };
    let stored = wrap_key(&master, nonce(), &context, &key).unwrap();
    assert!(unwrap_key(&master, &context, &stored).is_ok());
    for bit in 0..stored.len() * 8 {
        let mut changed = stored.clone().into_bytes();
        changed[bit / 8] ^= 1 << (bit % 8);
        let Ok(changed) = String::from_utf8(changed) else {
            continue;
        };
        assert!(unwrap_key(&master, &context, &changed).is_err(), "bit {bit}");
    }
    for end in 0..stored.len() {
        assert!(unwrap_key(&master, &context, &stored[..end]).is_err(), "{end}");
    }
}
