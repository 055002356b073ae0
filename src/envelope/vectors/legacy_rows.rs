//! Values of the service that used the table before.

use super::*;
use crate::envelope::{key_of, open_credential, reencrypt};

const LEGACY: &str = include_str!("../../../tests/vectors/legacy_vectors.json");

#[test]
fn a_value_of_the_other_kind_is_tampered() {
    let vectors = Vectors::read();
    let legacy: Value = serde_json::from_str(LEGACY).unwrap();
    let legacy_key = DataKey::legacy(text(&legacy, "encryption_salt").as_bytes()).into_opening();
    let context = vectors.row_context();
    let cv1 = text(&vectors.list("rows")[0], "stored");
    assert_eq!(kind_of(open_credential(&legacy_key, &context, cv1, None)), ErrorKind::Tampered);
    let v1 = text(&legacy["rows"][0], "stored");
    assert_eq!(kind_of(open_credential(&vectors.opening(), &context, v1, None)), ErrorKind::Tampered);
}

#[test]
fn the_legacy_key_opens_and_never_seals() {
    let legacy: Value = serde_json::from_str(LEGACY).unwrap();
    let key = DataKey::legacy(text(&legacy, "encryption_salt").as_bytes());
    assert_eq!(key.bytes().expose()[..], hex(text(&legacy, "key_sha256_of_salt")));
    assert_eq!((key.id(), key.organization()), (DataKeyId::LEGACY, None));
    assert_eq!(text(&legacy, "encryption_key_id"), key.id().to_string());
    assert_eq!(kind_of(key.into_sealing()), ErrorKind::Refused);
}

#[test]
fn every_legacy_row_opens_and_is_reencrypted_with_the_expiry_of_its_column() {
    let vectors = Vectors::read();
    let legacy: Value = serde_json::from_str(LEGACY).unwrap();
    let key = DataKey::legacy(text(&legacy, "encryption_salt").as_bytes()).into_opening();
    let rows = legacy["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 9);
    let expiry = Timestamp::from_microseconds(1_798_761_599_123_456);
    for row in rows {
        let (name, stored, credential_type) =
            (text(row, "name"), text(row, "stored"), text(row, "credential_type"));
        let context = RowContext { credential_type, ..vectors.row_context() };
        let fields = fields_of(row);
        for expiry in [None, expiry] {
            let expires_us = expiry.map(Timestamp::as_microseconds);
            assert_eq!(key_of(stored, "v1").unwrap(), key.id());
            let opened = open_credential(&key, &context, stored, expiry).expect(name);
            assert_holds(&opened, credential_type, &fields, expires_us);

            let nonce = Nonce::draw().unwrap();
            let moved = reencrypt(&key, &vectors.sealing(), nonce, &context, stored, expiry).expect(name);
            let opened = open_credential(&vectors.opening(), &context, &moved, None).expect(name);
            assert_holds(&opened, credential_type, &fields, expires_us);
        }
    }
}

#[test]
fn every_bad_legacy_value_is_refused() {
    let vectors = Vectors::read();
    let legacy: Value = serde_json::from_str(LEGACY).unwrap();
    let key = DataKey::legacy(text(&legacy, "encryption_salt").as_bytes()).into_opening();
    let bad = legacy["must_not_open"].as_object().unwrap();
    assert_eq!(bad.len(), 9);
    for (name, stored) in bad {
        let expected = match name.as_str() {
            "tag_bit" | "another_salt" => ErrorKind::Tampered,
            _ => ErrorKind::Malformed,
        };
        let stored = stored.as_str().unwrap();
        assert_eq!(key_of(stored, "v1").unwrap(), DataKeyId::LEGACY);
        let result = open_credential(&key, &vectors.row_context(), stored, None);
        assert_eq!(kind_of(result), expected, "{name}");
    }
    // Strictly canonical: neither without padding, nor with unused bits, nor in the other alphabet.
    let good = text(&legacy["rows"][0], "stored");
    let unused_bits = good.replace("Bg==", "Bh==");
    assert_ne!(good, unused_bits);
    for stored in [good.trim_end_matches('='), &unused_bits, &good.replace('+', "-"), &format!("{good}\n")] {
        let result = open_credential(&key, &vectors.row_context(), stored, None);
        assert_eq!(kind_of(result), ErrorKind::Malformed, "{stored}");
    }
}
