//! Every entry of the format's vectors, against the code.

mod keys;
mod legacy_rows;
mod rows;

use std::collections::BTreeMap;

use secrecy::ExposeSecret;
use serde_json::Value;
use uuid::Uuid;

use super::{Nonce, RowContext, WrapContext};
use crate::clock::Timestamp;
use crate::credential::{Credential, CredentialType};
use crate::crypto::key::{DataKey, MasterKey, OpeningKey, SealingKey};
use crate::crypto::key_bytes::KeyBytes;
use crate::error::{ErrorKind, Result};
use crate::id::{DataKeyId, OrganizationId};

const VECTORS: &str = include_str!("../../../tests/vectors/vectors.json");

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

#[track_caller]
fn kind_of<T>(result: Result<T>) -> ErrorKind {
    result.err().expect("a value was accepted").kind()
}
