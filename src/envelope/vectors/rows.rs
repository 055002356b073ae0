//! Rows, payloads and limits.

use super::*;
use crate::crypto::subkeys::Purpose;
use crate::envelope::header::Header;
use crate::envelope::{key_of, open_credential, payload, reencrypt, seal_credential};

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
        assert_eq!(context.with_associated_data(&header, <[u8]>::to_vec), hex(text(row, "aad")), "{name}");

        if let Some(expected) = row["payload"].as_str() {
            let credential = credential(&fields, expires_us);
            let payload = payload::Payload::of(&credential).unwrap();
            let mut buffer = vec![0; payload.padded_bytes()];
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
