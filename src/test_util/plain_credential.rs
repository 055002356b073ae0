//! A credential in clear, as tests want one.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::credential::{Credential, CredentialType};
use crate::secret::ExposeSecret;

/// A credential in clear: unlike a [`Credential`] it can be cloned, compared, and shown when a property fails.
///
/// **For made-up credentials only**: its `Debug` shows every value, and nothing wipes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainCredential {
    /// The type.
    pub credential_type: CredentialType,
    /// The fields, by name.
    pub fields: BTreeMap<String, String>,
    /// When it expires. A vault rounds it down to the microsecond.
    pub expires_at: Option<OffsetDateTime>,
}

impl PlainCredential {
    /// The credential to give a vault.
    #[must_use]
    pub fn credential(&self) -> Credential {
        let empty = Credential::new(self.credential_type.clone()).with_expiry(self.expires_at);
        self.fields
            .iter()
            .fold(empty, |credential, (name, value)| credential.with_field(name.as_str(), value.as_str()))
    }
}

impl From<&Credential> for PlainCredential {
    fn from(credential: &Credential) -> Self {
        Self {
            credential_type: credential.credential_type().clone(),
            fields: credential
                .fields()
                .map(|(name, value)| (name.to_owned(), value.expose_secret().to_owned()))
                .collect(),
            expires_at: credential.expires_at(),
        }
    }
}
