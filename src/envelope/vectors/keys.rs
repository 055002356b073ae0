//! Subkeys, key checks and wrapped keys.

use secrecy::ExposeSecret;

use super::*;
use crate::crypto::key::KeyCheck;
use crate::crypto::subkeys::Purpose;
use crate::envelope::{open_credential, text as text_form, unwrap_key, wrap_key, wrapping_key_of};
use crate::id::VaultId;

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
    let wrapped = text_form::decode(stored, Purpose::DataKey).unwrap();
    Nonce::chosen(wrapped.expose_secret()[20..44].try_into().unwrap())
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
