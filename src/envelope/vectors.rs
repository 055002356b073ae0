//! Every entry of the format's vectors, against the code.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use serde_json::Value;
use uuid::Uuid;

use super::header::Header;
use super::*;
use crate::clock::Timestamp;
use crate::credential::{Credential, CredentialType};
use crate::crypto::key::{DataKey, KeyBytes, KeyCheck, MasterKey, OpeningKey, SealingKey};
use crate::crypto::subkeys::Purpose;
use crate::error::{ErrorKind, Result};
use crate::id::{DataKeyId, OrganizationId, VaultId};

const VECTORS: &str = include_str!("../../tests/vectors/vectors.json");
const LEGACY: &str = include_str!("../../tests/vectors/legacy_vectors.json");

/// `vectors.json`, by what its entries mean.
struct Vectors(Value);

impl Vectors {
    fn read() -> Self {
        Self(serde_json::from_str(VECTORS).unwrap())
    }

    fn list(&self, name: &str) -> &[Value] {
        let list = self.0[name].as_array().unwrap();
        assert!(!list.is_empty());
        list
    }

    fn id<T: From<Uuid>>(&self, name: &str) -> T {
        text(&self.0, name).parse::<Uuid>().unwrap().into()
    }

    fn data_key_id(&self) -> DataKeyId {
        text(&self.0, "data_key_id").parse().unwrap()
    }

    fn data_key(&self, organization: Option<OrganizationId>) -> DataKey {
        let bytes = KeyBytes::copy_of(&hex(text(&self.0, "data_key"))).unwrap();
        DataKey::new(self.data_key_id(), organization, bytes)
    }

    fn sealing(&self) -> SealingKey {
        self.data_key(None).into_sealing().unwrap()
    }

    fn opening(&self) -> OpeningKey {
        self.data_key(None).into_opening()
    }

    fn master_key(&self) -> MasterKey {
        let bytes = KeyBytes::copy_of(&hex(text(&self.0, "master_key"))).unwrap();
        MasterKey::new(self.id("master_key_id"), bytes)
    }

    fn row_context(&self) -> RowContext<'static> {
        RowContext {
            organization: self.id("organization_id"),
            integration: self.id("integration_id"),
            credential_type: "token",
        }
    }

    fn wrap_context(&self) -> WrapContext {
        WrapContext { vault: self.id("vault_id"), data_key: self.data_key_id(), organization: None }
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0);
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

fn nonce(value: &Value) -> Nonce {
    Nonce::chosen(hex(text(value, "nonce")).try_into().unwrap())
}

fn fields_of(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(value["fields"].clone()).unwrap()
}

fn credential(fields: &BTreeMap<String, String>, expires_us: Option<i64>) -> Credential {
    let expiry =
        expires_us.map(|us| time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).unwrap());
    fields
        .iter()
        .fold(Credential::new(CredentialType::token()).with_expiry(expiry), |credential, (name, value)| {
            credential.with_field(name, value.as_str())
        })
}

#[track_caller]
fn assert_holds(
    opened: &Credential,
    credential_type: &str,
    fields: &BTreeMap<String, String>,
    expires_us: Option<i64>,
) {
    let found: BTreeMap<_, _> =
        opened.fields().map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned())).collect();
    assert_eq!(found, *fields);
    assert_eq!(opened.expiry().unwrap().map(Timestamp::as_microseconds), expires_us);
    assert_eq!(opened.credential_type().as_str(), credential_type);
}

/// The kind that the vectors mean by an error of this name, when a value is opened by itself.
fn kind(value: &Value) -> ErrorKind {
    match text(value, "error") {
        "malformed" => ErrorKind::Malformed,
        "unsupported" => ErrorKind::Unsupported,
        "tampered" => ErrorKind::Tampered,
        "unknown key" => ErrorKind::KeyUnavailable,
        other => panic!("{other} is no kind"),
    }
}

/// The rows that must not open, with the kind of error of each.
///
/// `one_character_more` and `extended` are one text, and the vectors give it two kinds. It is canonical base64 of
/// one byte more, so nothing is wrong with its form: what says so is the tag, and `extended` is right.
fn bad_rows(vectors: &Vectors) -> Vec<(&str, &str, ErrorKind)> {
    let rows = vectors.list("must_not_open");
    let extended = rows.iter().find(|row| text(row, "name") == "extended").unwrap();
    let bad = rows.iter().map(|row| {
        let (name, stored) = (text(row, "name"), text(row, "stored"));
        if name == "one_character_more" {
            assert_eq!(stored, text(extended, "stored"));
            return (name, stored, kind(extended));
        }
        (name, stored, kind(row))
    });
    bad.collect()
}

#[track_caller]
fn kind_of<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("a value was accepted").kind()
}

#[test]
fn every_row_opens_to_its_value_and_is_sealed_to_its_text() {
    let vectors = Vectors::read();
    for row in vectors.list("rows") {
        let name = text(row, "name");
        let (context, stored) = (vectors.row_context(), text(row, "stored"));
        assert_eq!(text(row, "credential_type"), context.credential_type);
        let (fields, expires_us) = (fields_of(row), row["expires_us"].as_i64());

        let opened = open_credential(&vectors.opening(), &context, stored, None).expect(name);
        assert_holds(&opened, "token", &fields, expires_us);
        let sealed = seal_credential(&vectors.sealing(), nonce(row), &context, &opened).expect(name);
        assert_eq!(sealed, stored, "{name}");

        let key_id_column = vectors.data_key_id().to_string();
        assert_eq!(key_of(stored, &key_id_column).unwrap(), vectors.data_key_id());
        let header = Header::new(Purpose::Row, vectors.data_key_id().as_bytes(), nonce(row));
        assert_eq!(context.associated_data(&header), hex(text(row, "aad")), "{name}");

        if let Some(expected) = row["payload"].as_str() {
            let credential = credential(&fields, expires_us);
            let mut buffer = Vec::new();
            let payload = payload::Payload::of(&credential).unwrap();
            buffer.reserve_exact(payload.padded_bytes());
            payload.write_to(&mut buffer);
            assert_eq!(buffer, hex(expected), "{name}");
        }
    }
}

#[test]
fn a_row_opens_in_its_own_place_only() {
    let vectors = Vectors::read();
    let (key, here) = (vectors.opening(), vectors.row_context());
    let (organization, integration) = (*here.organization.as_uuid(), *here.integration.as_uuid());
    for row in vectors.list("rows") {
        for elsewhere in [
            RowContext { organization: integration.into(), ..here },
            RowContext { integration: organization.into(), ..here },
            RowContext { credential_type: "oauth2", ..here },
        ] {
            let result = open_credential(&key, &elsewhere, text(row, "stored"), None);
            assert_eq!(kind_of(result), ErrorKind::Tampered);
        }
    }
}

#[test]
fn every_bad_row_is_refused_with_its_kind() {
    let vectors = Vectors::read();
    let (opening, sealing) = (vectors.opening(), vectors.sealing());
    let context = vectors.row_context();
    for (name, stored, expected) in bad_rows(&vectors) {
        let result = open_credential(&opening, &context, stored, None);
        assert_eq!(kind_of(result), expected, "{name}");
        let result = reencrypt(&opening, &sealing, Nonce::draw().unwrap(), &context, stored, None);
        assert_eq!(kind_of(result), expected, "{name}");
    }
}

#[test]
fn key_of_refuses_by_the_first_characters_what_they_show() {
    let vectors = Vectors::read();
    let column = vectors.data_key_id().to_string();
    for (name, stored, expected) in bad_rows(&vectors) {
        let Err(error) = key_of(stored, &column) else {
            // Only what the first characters don't show may pass.
            assert!(matches!(expected, ErrorKind::Malformed | ErrorKind::Tampered), "{name}");
            continue;
        };
        let expected = match expected {
            // Beside a column, another key's id is tampering.
            ErrorKind::KeyUnavailable => ErrorKind::Tampered,
            kind => kind,
        };
        assert_eq!(error.kind(), expected, "{name}");
    }
    let good = text(&vectors.list("rows")[0], "stored");
    let other = "0191f0a0-7c5e-7aaa-8bbb-0123456789ab";
    let legacy_as_uuid = "76310000-0000-0000-0000-000000000000";
    for (stored, column, expected) in [
        (good, "v1", ErrorKind::Tampered),
        (good, other, ErrorKind::Tampered),
        (good, "", ErrorKind::Tampered),
        (good, &column.to_uppercase(), ErrorKind::Tampered),
        (good, legacy_as_uuid, ErrorKind::Tampered),
        ("b7+jfXGFCXkzONGc", &column, ErrorKind::Tampered),
        ("b7+jfXGFCXkzONGc", legacy_as_uuid, ErrorKind::Tampered),
        ("", &column, ErrorKind::Malformed),
        ("not base64", &column, ErrorKind::Malformed),
        ("cv2.AQEBAPWX", &column, ErrorKind::Malformed),
    ] {
        assert_eq!(kind_of(key_of(stored, column)), expected, "{stored} {column}");
    }
    assert_eq!(key_of("b7+jfXGFCXkzONGc", "v1").unwrap(), DataKeyId::LEGACY);
}

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
fn payloads_have_the_size_of_their_bucket() {
    for pair in Vectors::read().list("padme") {
        let [bytes, bucket] = [0, 1].map(|at| usize::try_from(pair[at].as_u64().unwrap()).unwrap());
        assert_eq!(payload::padme(bytes), bucket);
    }
}

#[test]
fn a_credential_is_sealed_up_to_its_limits_and_not_beyond() {
    let vectors = Vectors::read();
    let (sealing, opening, context) = (vectors.sealing(), vectors.opening(), vectors.row_context());
    for limit in vectors.list("limits") {
        let size = |value: &Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let fields: BTreeMap<_, _> = limit["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|field| {
                let name = match field["name"].as_str() {
                    Some(name) => name.to_owned(),
                    None => "n".repeat(size(&field["name_bytes"])),
                };
                (name, text(field, "fill").repeat(size(&field["value_bytes"])))
            })
            .collect();
        let name = text(limit, "name");
        let expires_us = limit["expires_us"].as_i64();
        // Beyond the year 9999 there is no `OffsetDateTime`: such an expiry can't even be asked for.
        let in_range = expires_us
            .is_none_or(|us| time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).is_ok());
        if !in_range {
            assert_eq!(limit["seals"], false);
            continue;
        }
        let credential = credential(&fields, expires_us);
        let sealed = seal_credential(&sealing, Nonce::draw().unwrap(), &context, &credential);
        if limit["seals"] == false {
            assert_eq!(kind_of(sealed), ErrorKind::InvalidInput, "{name}");
            continue;
        }
        let stored = sealed.expect(name);
        let payload_bytes = size(&limit["payload_bytes"]);
        assert_eq!(payload::Payload::of(&credential).unwrap().padded_bytes(), payload_bytes);
        assert!(stored.len() <= 1 << 20);
        let opened = open_credential(&opening, &context, &stored, None).expect(name);
        assert_holds(&opened, "token", &fields, expires_us);
    }
}

#[test]
fn a_credential_has_65_535_fields_at_most() {
    let vectors = Vectors::read();
    let (sealing, opening, context) = (vectors.sealing(), vectors.opening(), vectors.row_context());
    for (count, seals) in [(65_535, true), (65_536, false)] {
        let fields = (0..count).map(|n| (n.to_string(), String::new())).collect();
        let sealed = seal_credential(&sealing, Nonce::draw().unwrap(), &context, &credential(&fields, None));
        if seals {
            let opened = open_credential(&opening, &context, &sealed.unwrap(), None).unwrap();
            assert_holds(&opened, "token", &fields, None);
        } else {
            assert_eq!(kind_of(sealed), ErrorKind::InvalidInput);
        }
    }
}

#[test]
fn a_text_beyond_one_mebibyte_is_malformed() {
    let vectors = Vectors::read();
    let good = text(&vectors.list("rows")[0], "stored");
    let long = good.to_owned() + &"A".repeat((1 << 20) + 4 - good.len());
    let result = open_credential(&vectors.opening(), &vectors.row_context(), &long, None);
    assert_eq!(kind_of(result), ErrorKind::Malformed);
    let longest = &long[..1 << 20];
    let result = open_credential(&vectors.opening(), &vectors.row_context(), longest, None);
    assert_eq!(kind_of(result), ErrorKind::Tampered);
    assert_eq!(kind_of(key_of(&long, &vectors.data_key_id().to_string())), ErrorKind::Malformed);
}

#[test]
fn key_checks_are_those_of_the_vectors() {
    let vectors = Vectors::read();
    let vault: VaultId = vectors.id("vault_id");
    let organization: OrganizationId = vectors.id("organization_id");
    let elsewhere = VaultId::from(*organization.as_uuid());
    for (organization, name) in
        [(None, "data_key_check_shared"), (Some(organization), "data_key_check_organization")]
    {
        let expected = hex(text(&vectors.0, name));
        let key = vectors.data_key(organization);
        assert_eq!(key.key_check(vault).as_bytes()[..], expected);
        let check = KeyCheck::from_slice(&expected).unwrap();
        assert!(key.verify(vault, &check));
        assert!(!key.verify(elsewhere, &check));
        assert!(!DataKey::generate(organization).unwrap().verify(vault, &check));
    }
    let expected = hex(text(&vectors.0, "master_key_check"));
    let master = vectors.master_key();
    assert_eq!(master.key_check(vault).as_bytes()[..], expected);
    let check = KeyCheck::from_slice(&expected).unwrap();
    assert!(master.verify(vault, &check));
    assert!(!master.verify(elsewhere, &check));
    assert!(KeyCheck::from_slice(&expected[..15]).is_none());
    for at in 0..16 {
        let mut flipped = expected.clone();
        flipped[at] ^= 1;
        assert!(!master.verify(vault, &KeyCheck::from_slice(&flipped).unwrap()));
    }
}

#[test]
fn every_wrapped_key_unwraps_and_is_wrapped_to_its_text() {
    let vectors = Vectors::read();
    let (master, vault) = (vectors.master_key(), vectors.id("vault_id"));
    for wrapped in vectors.list("wrapped_keys") {
        let (name, stored) = (text(wrapped, "name"), text(wrapped, "stored"));
        let id = DataKeyId::from_bytes(hex(text(wrapped, "data_key_id")).try_into().unwrap());
        let organization =
            wrapped["organization_id"].as_str().map(|id| id.parse::<OrganizationId>().unwrap());
        let context = WrapContext { vault, data_key: id, organization };
        let key = unwrap_key(&master, &context, stored).expect(name);
        assert_eq!(key.bytes().expose()[..], hex(text(wrapped, "key")), "{name}");
        assert_eq!((key.id(), key.organization()), (id, organization));
        assert_eq!(wrapping_key_of(stored).unwrap(), master.id());

        let nonce = nonce_of(stored);
        assert_eq!(wrap_key(&master, nonce, &context, &key).expect(name), stored);
        let elsewhere = WrapContext { data_key: DataKeyId::generate(), ..context };
        let result = wrap_key(&master, Nonce::draw().unwrap(), &elsewhere, &key);
        assert_eq!(kind_of(result), ErrorKind::InvalidInput);
    }
}

/// The nonce of a wrapped key, which the vectors name by its text only.
fn nonce_of(stored: &str) -> Nonce {
    let wrapped = text::decode(stored, Purpose::DataKey).unwrap();
    Nonce::chosen(wrapped[20..44].try_into().unwrap())
}

#[test]
fn every_bad_wrapped_key_is_refused_with_its_kind() {
    let vectors = Vectors::read();
    for bad in vectors.list("must_not_unwrap_as_shared") {
        let stored = text(bad, "stored");
        let result = unwrap_key(&vectors.master_key(), &vectors.wrap_context(), stored);
        assert_eq!(kind_of(result), kind(bad), "{}", text(bad, "name"));
    }
    // A row is no wrapped key, and a wrapped key is no row.
    let row = text(&vectors.list("rows")[3], "stored");
    assert_eq!(kind_of(wrapping_key_of(row)), ErrorKind::Unsupported);
    let wrapped = text(&vectors.list("wrapped_keys")[0], "stored");
    let result = open_credential(&vectors.opening(), &vectors.row_context(), wrapped, None);
    assert_eq!(kind_of(result), ErrorKind::Unsupported);
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

#[test]
fn no_error_or_debug_shows_a_secret_or_a_stored_value() {
    let vectors = Vectors::read();
    for (_, stored, _) in bad_rows(&vectors) {
        let error = open_credential(&vectors.opening(), &vectors.row_context(), stored, None).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(stored.len() < 20 || !shown.contains(&stored[10..20]), "{shown}");
        assert!(shown.contains(&vectors.row_context().integration.to_string()));
    }
    for (shown, expected) in [
        (format!("{:?}", vectors.sealing()), "SealingKey(f5975111-c9e4-9978-a47f-d2d558018e46)"),
        (format!("{:?}", vectors.opening()), "OpeningKey(f5975111-c9e4-9978-a47f-d2d558018e46)"),
        (
            format!("{:?}", vectors.data_key(None)),
            "DataKey { id: DataKeyId(f5975111-c9e4-9978-a47f-d2d558018e46), organization: None, .. }",
        ),
        (
            format!("{:?}", vectors.master_key()),
            "MasterKey { id: MasterKeyId(af753217-54e5-10fb-1a3f-810857e75f8e), .. }",
        ),
    ] {
        assert_eq!(shown, expected);
    }
}
