//! Ids: one type each, so that one can't stand in another's place.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The id as a UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// The 16 bytes, as they stand in associated data.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                Uuid::try_parse(text).map(Self).map_err(|_| {
                    Error::new(ErrorKind::InvalidInput, concat!($what, " id is not a UUID"))
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0.as_hyphenated(), f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.as_hyphenated())
            }
        }
    };
}

uuid_id!(
    /// An organization: the tenant whose credentials are kept apart from all others'.
    OrganizationId,
    "organization"
);
uuid_id!(
    /// An integration of an organization with a connector (GitHub, Slack, …); it has one credential at most.
    IntegrationId,
    "integration"
);
uuid_id!(
    /// A vault: drawn once by `init`, bound into every wrapped key.
    VaultId,
    "vault"
);
uuid_id!(
    /// A master key, which wraps data keys.
    MasterKeyId,
    "master key"
);

/// A data key, which seals rows; in the database the text of a UUID, or `v1` for the legacy key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataKeyId([u8; 16]);

impl DataKeyId {
    /// The id of the key of the rows that were there before the vault: `v1` and 14 zero bytes.
    pub const LEGACY: Self = Self(*b"v1\0\0\0\0\0\0\0\0\0\0\0\0\0\0");

    /// A fresh id in order of time (UUIDv7).
    pub(crate) fn generate() -> Self {
        Self(Uuid::now_v7().into_bytes())
    }

    /// The id in a stored value's header: any 16 bytes.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, as they stand in headers and associated data.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Whether `text` is the one text of this id.
    pub(crate) fn is_spelled(&self, text: &str) -> bool {
        if self.is_legacy() {
            return text == "v1";
        }
        Uuid::from_bytes(self.0).as_hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text
    }

    /// Whether this is the [legacy key](Self::LEGACY).
    #[must_use]
    pub fn is_legacy(&self) -> bool {
        *self == Self::LEGACY
    }
}

impl FromStr for DataKeyId {
    type Err = Error;

    /// Reads the text of the column `encryption_key_id`: `v1`, or a UUID in lower case with hyphens and
    /// nothing else.
    fn from_str(text: &str) -> Result<Self> {
        let id = match text {
            "v1" => Some(Self::LEGACY),
            _ => Uuid::try_parse(text).ok().map(|id| Self(id.into_bytes())).filter(|id| id.is_spelled(text)),
        };
        id.ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "data key id is neither `v1` nor a UUID in lower case")
        })
    }
}

impl fmt::Display for DataKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_legacy() {
            return f.write_str("v1");
        }
        fmt::Display::fmt(Uuid::from_bytes(self.0).as_hyphenated(), f)
    }
}

impl fmt::Debug for DataKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKeyId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_key_id_has_one_text() {
        let id = DataKeyId::generate();
        assert_eq!(id.to_string().parse::<DataKeyId>().unwrap(), id);
        assert_eq!("v1".parse::<DataKeyId>().unwrap(), DataKeyId::LEGACY);
        let spelled = "0191F0A0-7C5E-7AAA-8BBB-0123456789AB";
        assert!(spelled.to_lowercase().parse::<DataKeyId>().is_ok());
        for text in ["", "V1", "v1 ", spelled, &spelled.to_lowercase().replace('-', "")] {
            assert!(text.parse::<DataKeyId>().is_err(), "{text}");
        }
        // The legacy id spelled as a UUID is not the legacy id's text.
        assert!("76310000-0000-0000-0000-000000000000".parse::<DataKeyId>().is_err());
    }
}
