//! Which key of which vault is meant, and which version of it answered.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// What the hosts of Key Vault and of managed HSMs end in: Azure's public cloud, China's and the US government's.
const VAULTS: [&str; 3] = ["vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net"];
const MANAGED_HSMS: [&str; 3] =
    ["managedhsm.azure.net", "managedhsm.azure.cn", "managedhsm.usgovcloudapi.net"];

/// The most bytes of the name of a vault and of a key, as the service's limits have it.
const MAX_VAULT_NAME_BYTES: usize = 24;
const MAX_KEY_NAME_BYTES: usize = 127;

/// The hexadecimal digits of a version.
const VERSION_BYTES: usize = 32;

/// How a key wraps, by where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// RSAES-OAEP with SHA-256 and MGF1 with SHA-256 (RFC 8017), by an RSA key of a vault.
    RsaOaep256,
    /// AES Key Wrap (RFC 3394) by a key of 256 bits of a managed HSM.
    A256Kw,
}

impl Algorithm {
    /// The name in the API, which is that of JSON Web Algorithms (RFC 7518).
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::RsaOaep256 => "RSA-OAEP-256",
            Self::A256Kw => "A256KW",
        }
    }

    /// Whether what it makes of a master key may have so many bytes: an RSA key's own size, or 8 more than the key.
    pub(super) const fn makes(self, bytes: usize) -> bool {
        match self {
            Self::RsaOaep256 => matches!(bytes, 256 | 384 | 512),
            Self::A256Kw => bytes == 40,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The version of a key: 32 hexadecimal digits, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version(String);

impl Version {
    fn read(text: &str) -> Option<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == VERSION_BYTES && text.bytes().all(digit)).then(|| Self(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key without its version. Every call names this one; nothing that stands in the database takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    host: String,
    name: String,
    algorithm: Algorithm,
}

impl Key {
    /// Reads what follows `azure-kv:`: a key, and the version that is to wrap, if one is given.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other form, which is not repeated: it may be a secret in the wrong place.
    pub(super) fn of_spec(text: &str) -> Result<(Self, Option<Version>)> {
        Self::read(text).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidInput,
                "a key of Azure Key Vault is given as `azure-kv:https://NAME.vault.azure.net/keys/KEY`, and of a managed HSM \
                 as `azure-kv:https://NAME.managedhsm.azure.net/keys/KEY`, either with `/VERSION` at its end or without \
                 (what was given is not repeated here)",
            )
        })
    }

    /// Reads a key with its version, as the service answers it and a record holds it.
    pub(super) fn of_id(text: &str) -> Option<(Self, Version)> {
        let (key, version) = Self::read(text)?;
        Some((key, version?))
    }

    fn read(text: &str) -> Option<(Self, Option<Version>)> {
        let (host, path) = text.strip_prefix("https://")?.split_once('/')?;
        let host = host.to_ascii_lowercase();
        let (vault, domain) = host.split_once('.')?;
        let algorithm = if VAULTS.contains(&domain) {
            Algorithm::RsaOaep256
        } else if MANAGED_HSMS.contains(&domain) {
            Algorithm::A256Kw
        } else {
            return None;
        };
        let mut path = path.strip_prefix("keys/")?.split('/');
        let (name, version) = (path.next()?, path.next());
        let version = match version {
            Some(version) => Some(Version::read(version)?),
            None => None,
        };
        let well_formed = path.next().is_none()
            && is_name(vault, MAX_VAULT_NAME_BYTES)
            && !vault.starts_with('-')
            && is_name(name, MAX_KEY_NAME_BYTES);
        well_formed.then(|| (Self { name: name.to_owned(), host, algorithm }, version))
    }

    /// Whether both are one key: the service tells neither hosts nor names apart by their case.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.host == other.host && self.name.eq_ignore_ascii_case(&other.name)
    }

    /// Where the vault is, `https://HOST`.
    pub(super) fn vault(&self) -> String {
        format!("https://{}", self.host)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key with a version, as a record holds it.
    pub(super) fn id(&self, version: &Version) -> String {
        format!("{self}/{}", version.as_str())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}/keys/{}", self.host, self.name)
    }
}

/// Whether `name` is one or more letters, digits and hyphens.
fn is_name(name: &str, most: usize) -> bool {
    (1..=most).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "https://contoso-1.vault.azure.net/keys/credvault";
    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_key_is_named_in_the_forms_of_azure_and_in_no_other() {
        let with_version = format!("{KEY}/{VERSION}");
        for (text, algorithm, version) in [
            (KEY, Algorithm::RsaOaep256, None),
            (&with_version, Algorithm::RsaOaep256, Some(VERSION)),
            (&KEY.replace("vault.azure.net", "managedhsm.azure.net"), Algorithm::A256Kw, None),
            (&KEY.replace("azure.net", "azure.cn"), Algorithm::RsaOaep256, None),
            (&KEY.replace("vault.azure.net", "managedhsm.usgovcloudapi.net"), Algorithm::A256Kw, None),
            (&KEY.replace("credvault", &"x".repeat(MAX_KEY_NAME_BYTES)), Algorithm::RsaOaep256, None),
        ] {
            let (key, read) = Key::of_spec(text).unwrap();
            let written = read.as_ref().map_or_else(|| key.to_string(), |version| key.id(version));
            assert_eq!(written, text);
            assert_eq!((key.algorithm(), read.as_ref().map(Version::as_str)), (algorithm, version));
            assert_eq!(Key::of_id(text).is_some(), version.is_some());
        }
        for text in [
            "",
            "credvault",
            "https://contoso.vault.azure.net",
            "https://contoso.vault.azure.net/keys/",
            "https://contoso.vault.azure.net/secrets/hunter2",
            "https://vault.azure.net/keys/credvault",
            "https://.vault.azure.net/keys/credvault",
            "https://-a.vault.azure.net/keys/credvault",
            "https://a.b.vault.azure.net/keys/credvault",
            "https://evil.example/contoso.vault.azure.net/keys/credvault",
            "https://contoso.vault.azure.net.evil.example/keys/credvault",
            "https://contoso.vault.azure.net@evil.example/keys/credvault",
            "https://hunter2@contoso.vault.azure.net/keys/credvault",
            "https://contoso.vault.azure.net:444/keys/credvault",
            &KEY.replace("https", "http"),
            &KEY.replace("contoso-1", &"x".repeat(MAX_VAULT_NAME_BYTES + 1)),
            &KEY.replace("credvault", &"x".repeat(MAX_KEY_NAME_BYTES + 1)),
            &format!("{KEY}/"),
            &format!("{KEY}/hunter2"),
            &format!("{KEY}/{}", VERSION.to_uppercase()),
            &format!("{KEY}/{VERSION}0"),
            &format!("{KEY}/{VERSION}/"),
            &format!("{KEY}?hunter2"),
            &format!("{KEY}/../hunter2"),
            &format!(" {KEY}"),
            &format!("{KEY}\n"),
        ] {
            let error = Key::of_spec(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
            assert!(!error.to_string().contains("hunter"), "{error}");
        }
    }

    #[test]
    fn a_key_is_itself_in_any_case_of_letters_and_no_other() {
        let of = |text: &str| Key::of_spec(text).unwrap().0;
        assert!(of(KEY).is(&of(&KEY.replace("contoso", "Contoso").replace("cred", "CRED"))));
        for other in [
            KEY.replace("contoso", "fabrikam"),
            KEY.replace("credvault", "credvault2"),
            KEY.replace("vault.azure.net", "managedhsm.azure.net"),
        ] {
            assert!(!of(KEY).is(&of(&other)), "{other}");
        }
    }
}
