//! Which key of Google Cloud KMS is meant, and which version of it.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// The most bytes of a project's id: 30, and those of a domain before it, as older projects have one.
const MAX_PROJECT_BYTES: usize = 100;

/// The most bytes of a location, a key ring and a key, as the API's reference has it.
const MAX_SEGMENT_BYTES: usize = 63;

/// `projects/P/locations/L/keyRings/R/cryptoKeys/K`: the key that every call names. Nothing that stands in the database
/// takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyName(String);

impl KeyName {
    /// Reads what follows `gcp-kms:`.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other form, which is not repeated: it may be a secret in the wrong place.
    pub(super) fn read(text: &str) -> Result<Self> {
        match rest_of(text) {
            Some("") => Ok(Self(text.to_owned())),
            _ => Err(Error::new(
                ErrorKind::InvalidInput,
                "a key of Google Cloud KMS is given as `gcp-kms:projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY`, \
                 without a version (what was given is not repeated here)",
            )),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `…/cryptoKeys/K/cryptoKeyVersions/N`: what KMS says that it encrypted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VersionName {
    name: String,
    key_bytes: usize,
}

impl VersionName {
    pub(super) fn read(text: &str) -> Option<Self> {
        let rest = rest_of(text)?;
        let number = rest.strip_prefix("/cryptoKeyVersions/")?;
        let canonical = number.parse::<u64>().is_ok_and(|parsed| parsed > 0 && parsed.to_string() == number);
        canonical.then(|| Self { name: text.to_owned(), key_bytes: text.len() - rest.len() })
    }

    pub(super) fn is_of(&self, key: &KeyName) -> bool {
        self.key() == key.as_str()
    }

    /// The name of the key that it is a version of.
    pub(super) fn key(&self) -> &str {
        &self.name[..self.key_bytes]
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What follows a key's name in `text`; `None` if it doesn't begin with one.
fn rest_of(text: &str) -> Option<&str> {
    let mut rest = text;
    for (collection, is_id) in [
        ("projects/", is_project as fn(&str) -> bool),
        ("/locations/", is_location),
        ("/keyRings/", is_segment),
        ("/cryptoKeys/", is_segment),
    ] {
        rest = rest.strip_prefix(collection)?;
        let (id, after) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !is_id(id) {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

/// `PROJECT`, or `DOMAIN:PROJECT`.
fn is_project(id: &str) -> bool {
    let (domain, project) = id.split_once(':').unwrap_or(("domain", id));
    let is_of = |text: &str, others: &str| {
        text.starts_with(|char: char| char.is_ascii_lowercase() || char.is_ascii_digit())
            && text
                .chars()
                .all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || others.contains(char))
    };
    id.len() <= MAX_PROJECT_BYTES && is_of(domain, ".-") && is_of(project, "-")
}

fn is_location(id: &str) -> bool {
    is_segment(id) && id.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-')
}

fn is_segment(id: &str) -> bool {
    (1..=MAX_SEGMENT_BYTES).contains(&id.len())
        && id.chars().all(|char| char.is_ascii_alphanumeric() || "_-".contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "projects/my-project/locations/europe-west1/keyRings/vaults/cryptoKeys/credvault";

    #[test]
    fn a_key_is_named_as_google_names_it_and_in_no_other_form() {
        for text in [
            KEY,
            &KEY.replace("my-project", "example.com:my-project"),
            &KEY.replace("my-project", "123456789012"),
            &KEY.replace("europe-west1", "global"),
            &KEY.replace("vaults", "Team_1-vaults"),
            &KEY.replace("credvault", &"x".repeat(MAX_SEGMENT_BYTES)),
        ] {
            assert_eq!(KeyName::read(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            "hunter2",
            &KEY.replace("projects/", ""),
            &KEY.replace("projects/", "/projects/"),
            &KEY.replace("my-project", ""),
            &KEY.replace("my-project", "My-project"),
            &KEY.replace("my-project", "-project"),
            &KEY.replace("my-project", ":project"),
            &KEY.replace("my-project", "a:b:hunter2"),
            &KEY.replace("my-project", ".."),
            &KEY.replace("my-project", &"x".repeat(MAX_PROJECT_BYTES + 1)),
            &KEY.replace("europe-west1", "Europe"),
            &KEY.replace("europe-west1", ".."),
            &KEY.replace("vaults", ""),
            &KEY.replace("vaults", "va$ults"),
            &KEY.replace("vaults", ".."),
            &KEY.replace("vaults", "va%2fults"),
            &KEY.replace("keyRings", "keyrings"),
            &KEY.replace("credvault", &"x".repeat(MAX_SEGMENT_BYTES + 1)),
            &format!("{KEY}/"),
            &format!("{KEY}/cryptoKeyVersions/1"),
            &format!("{KEY}:hunter2"),
            &format!("{KEY}?hunter2"),
            &format!("{KEY}\n"),
            &format!(" {KEY}"),
        ] {
            let error = KeyName::read(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }

    #[test]
    fn a_version_is_of_one_key_and_its_number_has_one_form() {
        let key = KeyName::read(KEY).unwrap();
        for number in ["1", "27", "18446744073709551615"] {
            let version = VersionName::read(&format!("{KEY}/cryptoKeyVersions/{number}")).unwrap();
            assert!(version.is_of(&key));
            assert_eq!(version.key(), KEY);
        }
        let other = VersionName::read(&format!("{KEY}2/cryptoKeyVersions/1")).unwrap();
        assert!(!other.is_of(&key));
        for number in ["", "0", "01", "+1", "-1", "1 ", "1/", "x", "18446744073709551616"] {
            assert_eq!(VersionName::read(&format!("{KEY}/cryptoKeyVersions/{number}")), None, "{number}");
        }
        assert_eq!(VersionName::read(KEY), None);
    }
}
