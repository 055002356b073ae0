//! A credential with its place, as a line of JSON: what bulk import reads and export writes.

use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use super::{Credential, CredentialType, checked_connector};
use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntegrationId, OrganizationId};
use crate::json::{self, Value};
use crate::secret::{ExposeSecret, SecretText};

/// A credential and where it belongs, as one line of JSON Lines, version 1.
///
/// ```text
/// {"version":1,"organization_id":UUID,"integration_id":UUID,"connector":NAME,"credential_type":TYPE,
///  "expires_at":RFC 3339 or null,"fields":{NAME:VALUE,…}}
/// ```
///
/// Written on one line, in this order. When read, the order is free; `version`, `expires_at` and one of `integration_id`
/// and `connector` may be null or absent; any other member is refused. Secrets pass through wiped memory alone.
///
/// ```
/// use credvault::{CredentialLine, ExposeSecret};
///
/// let line = CredentialLine::parse(
///     r#"{"organization_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "connector": "github",
///         "credential_type": "token", "fields": {"access_token": "ghp_…"}}"#,
/// )?;
/// assert_eq!(line.connector.as_deref(), Some("github"));
/// let again = CredentialLine::parse(line.to_json()?.expose_secret())?;
/// assert_eq!(again.credential.fields().len(), 1);
/// # Ok::<(), credvault::Error>(())
/// ```
#[derive(Debug)]
pub struct CredentialLine {
    /// The organization.
    pub organization_id: OrganizationId,
    /// The integration, in the database that the line came from.
    pub integration_id: Option<IntegrationId>,
    /// The integration's connector: `github`, `slack`, …
    pub connector: Option<String>,
    /// The credential.
    pub credential: Credential,
}

impl CredentialLine {
    /// The version that is written, and the only one that is read.
    pub const VERSION: u64 = 1;

    /// The longest line, in bytes: the largest credential with each of its 770,036 bytes escaped as six, and room for
    /// the rest. Whatever is written can be read again.
    pub const MAX_BYTES: usize = 5 * 1024 * 1024;

    /// Reads a line; `text` is the caller's to wipe.
    ///
    /// # Errors
    ///
    /// `InvalidInput` that says what is wrong, and repeats no value.
    pub fn parse(text: &str) -> Result<Self> {
        let mut members = Members::default();
        for (name, value) in json::read_record(text).map_err(invalid)? {
            members.take(&name, value)?;
        }
        let credential_type = members.credential_type.ok_or_else(|| missing("credential_type"))?;
        let fields = members.fields.ok_or_else(|| missing("fields"))?;
        if members.integration_id.is_none() && members.connector.is_none() {
            return Err(invalid("neither integration_id nor connector is there"));
        }
        let credential = Credential::new(credential_type).with_expiry(members.expires_at);
        Ok(Self {
            organization_id: members.organization_id.ok_or_else(|| missing("organization_id"))?,
            integration_id: members.integration_id,
            connector: members.connector,
            credential: fields
                .into_iter()
                .fold(credential, |credential, (name, value)| credential.with_field(name, value)),
        })
    }

    /// Writes the line, without a newline at its end.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an expiry outside the years 0001 to 9999 UTC.
    pub fn to_json(&self) -> Result<SecretText> {
        let expires_at = self.credential.expiry()?.map(Timestamp::to_offset_date_time);
        let expires_at = expires_at.map(|moment| moment.format(&Rfc3339)).transpose();
        let expires_at = expires_at.map_err(|_| invalid("the expiry has no RFC 3339 form"))?;

        let mut begin = format!(r#"{{"version":{},"organization_id":"#, Self::VERSION);
        json::push_string(&mut begin, &self.organization_id.to_string());
        let integration_id = self.integration_id.map(|id| id.to_string());
        for (name, value) in [
            ("integration_id", integration_id.as_deref()),
            ("connector", self.connector.as_deref()),
            ("credential_type", Some(self.credential.credential_type().as_str())),
            ("expires_at", expires_at.as_deref()),
        ] {
            begin.push(',');
            json::push_string(&mut begin, name);
            begin.push(':');
            match value {
                Some(value) => json::push_string(&mut begin, value),
                None => begin.push_str("null"),
            }
        }
        begin.push_str(r#","fields":{"#);

        // Of exactly the size that it takes: memory that moves leaves a copy.
        let fields = || self.credential.fields();
        let bytes = begin.len() + fields().map(|field| json::member_bytes(field) + 1).sum::<usize>() + 2;
        let mut line = Zeroizing::new(String::with_capacity(bytes));
        line.push_str(&begin);
        json::push_members(&mut line, fields());
        line.push_str("}}");
        Ok(line.into())
    }
}

/// The members as they come.
#[derive(Default)]
struct Members {
    organization_id: Option<OrganizationId>,
    integration_id: Option<IntegrationId>,
    connector: Option<String>,
    credential_type: Option<CredentialType>,
    expires_at: Option<OffsetDateTime>,
    fields: Option<json::Strings>,
}

impl Members {
    fn take(&mut self, name: &str, value: Value) -> Result<()> {
        match (name, value) {
            ("version", Value::Number(CredentialLine::VERSION)) => {}
            ("version", Value::Number(other)) => {
                let ours = CredentialLine::VERSION;
                return Err(invalid(format!("the line is of version {other}; this program reads {ours}")));
            }
            ("version" | "integration_id" | "connector" | "expires_at", Value::Null) => {}
            ("organization_id", Value::String(text)) => self.organization_id = Some(parsed(&text)?),
            ("integration_id", Value::String(text)) => self.integration_id = Some(parsed(&text)?),
            ("connector", Value::String(text)) => {
                checked_connector(text.expose_secret())?;
                self.connector = Some(text.expose_secret().to_owned());
            }
            ("credential_type", Value::String(text)) => self.credential_type = Some(parsed(&text)?),
            ("expires_at", Value::String(text)) => self.expires_at = Some(moment(text.expose_secret())?),
            ("fields", Value::Object(fields)) => self.fields = Some(fields),
            ("fields", _) => return Err(invalid("fields is not an object of strings")),
            ("version", _) => return Err(invalid("version is not a whole number")),
            ("organization_id" | "integration_id" | "connector" | "credential_type" | "expires_at", _) => {
                return Err(invalid(format!("{name} is not a string")));
            }
            _ => return Err(invalid(format!("there is no member {} in a line", json::shown(name)))),
        }
        Ok(())
    }
}

fn parsed<T: FromStr<Err = Error>>(text: &SecretText) -> Result<T> {
    text.expose_secret().parse()
}

/// A moment as the vault keeps it: in UTC, rounded down to the microsecond.
fn moment(text: &str) -> Result<OffsetDateTime> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok().and_then(Timestamp::floor);
    let moment = moment.map(Timestamp::to_offset_date_time);
    moment.ok_or_else(|| invalid("expires_at is no time such as 2027-01-31T12:00:00Z"))
}

fn missing(name: &str) -> Error {
    invalid(format!("{name} is missing"))
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::credential::MAX_VALUE_BYTES;

    const ID: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

    fn line(fields: impl IntoIterator<Item = (String, String)>, expiry: Option<i64>) -> CredentialLine {
        let expiry = expiry.and_then(Timestamp::from_microseconds).map(Timestamp::to_offset_date_time);
        let credential = Credential::new(CredentialType::oauth2()).with_expiry(expiry);
        CredentialLine {
            organization_id: ID.parse().unwrap(),
            integration_id: None,
            connector: Some("gît\"hub".to_owned()),
            credential: fields.into_iter().fold(credential, |it, (name, value)| it.with_field(name, value)),
        }
    }

    #[test]
    fn a_line_is_written_in_one_form() {
        let fields = [("b".to_owned(), "x\n".to_owned()), ("a".to_owned(), String::new())];
        let line = line(fields, Some(1_234_567));
        assert_eq!(
            line.to_json().unwrap().expose_secret(),
            format!(
                r#"{{"version":1,"organization_id":"{ID}","integration_id":null,"connector":"gît\"hub","credential_type":"oauth2","expires_at":"1970-01-01T00:00:01.234567Z","fields":{{"a":"","b":"x\n"}}}}"#
            )
        );
    }

    #[test]
    fn the_longest_line_is_within_the_bound() {
        let line = line([("\u{1}".to_owned(), "\u{1}".repeat(MAX_VALUE_BYTES))], None);
        let json = line.to_json().unwrap();
        assert!(json.len() > 6 * MAX_VALUE_BYTES && json.len() < CredentialLine::MAX_BYTES);
    }

    #[test]
    fn a_line_that_is_not_whole_is_refused_by_name_and_no_value_repeated() {
        let whole = format!(
            r#"{{"organization_id":"{ID}","connector":"github","credential_type":"token","fields":{{"a":"hunter2"}}}}"#
        );
        assert!(CredentialLine::parse(&whole).is_ok());
        for (from, to, why) in [
            ("organization_id", "organisation_id", "\"organisation_id\""),
            (&format!("\"organization_id\":\"{ID}\","), "", "organization_id is missing"),
            ("\"connector\":\"github\",", "", "neither integration_id nor connector"),
            ("\"github\"", "null", "neither integration_id nor connector"),
            ("\"github\"", "1", "connector is not a string"),
            ("github", "hunter2\\n", "1 to 50 characters"),
            ("\"connector\":\"github\"", "\"integration_id\":\"hunter2\"", "not a UUID"),
            ("\"token\"", "null", "credential_type is not a string"),
            ("token", "", "1 to 50 characters"),
            ("{\"a\":\"hunter2\"}", "null", "fields is not an object"),
            ("\"hunter2\"", "[\"hunter2\"]", "\"a\" is not a string"),
            ("{\"a\"", "{\"a\":\"hunter2\",\"a\"", "\"a\" is there twice"),
            ("\"fields\"", "\"version\":2,\"fields\"", "version 2; this program reads 1"),
            ("\"fields\"", "\"version\":\"1\",\"fields\"", "version is not a whole number"),
            ("\"fields\"", "\"expires_at\":\"hunter2\",\"fields\"", "expires_at is no time"),
            ("\"fields\"", "\"expires_at\":1,\"fields\"", "expires_at is not a string"),
            ("}}", "}} hunter2", "follows"),
        ] {
            let text = whole.replace(from, to);
            assert_ne!(text, whole, "{from}");
            let error = CredentialLine::parse(&text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = error.to_string();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_is_json(
            fields in btree_map(any::<String>(), any::<String>(), 0..4),
            expiry: Option<i64>,
        ) {
            let line = line(fields.clone(), expiry);
            let json = line.to_json().unwrap();
            let general: serde_json::Value = serde_json::from_str(json.expose_secret()).unwrap();
            prop_assert_eq!(&general["fields"], &serde_json::to_value(&fields).unwrap());
            let read = CredentialLine::parse(json.expose_secret()).unwrap();
            prop_assert_eq!(read.organization_id, line.organization_id);
            prop_assert_eq!(&read.connector, &line.connector);
            prop_assert_eq!(read.credential.expires_at(), line.credential.expires_at());
            let again = read.credential.fields();
            let again = again.map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned()));
            prop_assert_eq!(again.collect::<std::collections::BTreeMap<_, _>>(), fields);
        }
    }
}
