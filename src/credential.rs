//! What the vault keeps: a credential, and what is said of it without opening it.

mod line;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;

use crate::clock::Timestamp;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, IntegrationId, OrganizationId};
use crate::json;
use crate::secret::SecretText;

pub use line::CredentialLine;

/// The most fields that a credential may have: what the stored format counts in 16 bits.
pub const MAX_FIELDS: usize = 65_535;

/// The most bytes of a field's name: what the stored format counts in 16 bits.
pub const MAX_NAME_BYTES: usize = 65_535;

/// The most bytes of a field's value: all that the largest stored payload has left beside a name of one byte.
/// All names and values of a credential share this room, with 6 bytes more for each field.
pub const MAX_VALUE_BYTES: usize = 770_029;

/// The most characters of a credential type: the width of the column.
pub const MAX_TYPE_CHARS: usize = 50;

/// The longest name of a connector: the width of the column.
const MAX_CONNECTOR_CHARS: usize = 50;

/// Holds a connector's name to the column.
///
/// # Errors
///
/// `InvalidInput`.
pub(crate) fn checked_connector(connector: &str) -> Result<()> {
    let chars = connector.chars().count();
    if chars == 0 || chars > MAX_CONNECTOR_CHARS || connector.chars().any(char::is_control) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("a connector's name has 1 to {MAX_CONNECTOR_CHARS} characters, none a control character"),
        ));
    }
    Ok(())
}

/// The kind of a credential, as the column `credential_type` spells it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialType(String);

impl CredentialType {
    /// `oauth2`: an access token with a refresh token.
    #[must_use]
    pub fn oauth2() -> Self {
        Self("oauth2".to_owned())
    }

    /// `token`: a token by itself, such as a GitHub App's installation token or a personal access token.
    #[must_use]
    pub fn token() -> Self {
        Self("token".to_owned())
    }

    /// `service_account`: a key of a service account, such as GCP's JSON file.
    #[must_use]
    pub fn service_account() -> Self {
        Self("service_account".to_owned())
    }

    /// The text of the column.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text of a stored row, which may break the rules for new ones: it only has to match what was sealed.
    pub(crate) fn from_stored(text: String) -> Self {
        Self(text)
    }
}

impl FromStr for CredentialType {
    type Err = Error;

    /// Any text of 1 to [`MAX_TYPE_CHARS`] characters without control characters.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other.
    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() || text.chars().count() > MAX_TYPE_CHARS || text.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "a credential type has 1 to {MAX_TYPE_CHARS} characters, none of them a control character"
                ),
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CredentialType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A credential: a type, named secret fields, and optionally when it expires.
///
/// The values are secrets, wiped when dropped; the names are not, and `Debug` shows them.
///
/// ```
/// use credvault::{Credential, CredentialType, ExposeSecret};
///
/// let credential = Credential::new(CredentialType::token())
///     .with_field("access_token", "ghs_16C7e42F292c6912E7710c838347Ae178B4a")
///     .with_field("installation_id", "51234567");
/// let token = credential.field("access_token").map(ExposeSecret::expose_secret);
/// assert_eq!(token, Some("ghs_16C7e42F292c6912E7710c838347Ae178B4a"));
/// assert!(!format!("{credential:?}").contains("ghs_"));
/// ```
pub struct Credential {
    credential_type: CredentialType,
    fields: BTreeMap<String, SecretText>,
    expires_at: Option<OffsetDateTime>,
}

impl Credential {
    /// A credential without fields.
    #[must_use]
    pub fn new(credential_type: CredentialType) -> Self {
        Self { credential_type, fields: BTreeMap::new(), expires_at: None }
    }

    /// A GitHub App's installation token (`ghs_…`), which GitHub lets expire after an hour: the fields
    /// `access_token` and `installation_id`.
    #[must_use]
    pub fn github_installation(
        access_token: impl Into<SecretText>,
        installation_id: u64,
        expires_at: OffsetDateTime,
    ) -> Self {
        Self::new(CredentialType::token())
            .with_field("access_token", access_token)
            .with_field("installation_id", installation_id.to_string())
            .with_expiry(expires_at)
    }

    /// A GitHub user's token (`ghu_…`) with its single-use refresh token (`ghr_…`): the fields `access_token`
    /// and `refresh_token`; `expires_at` is the access token's.
    #[must_use]
    pub fn github_user(
        access_token: impl Into<SecretText>,
        refresh_token: impl Into<SecretText>,
        expires_at: OffsetDateTime,
    ) -> Self {
        Self::new(CredentialType::oauth2())
            .with_field("access_token", access_token)
            .with_field("refresh_token", refresh_token)
            .with_expiry(expires_at)
    }

    /// The same credential with the field `name`, in place of one of that name.
    ///
    /// Limits are checked when the credential is sealed: [`MAX_FIELDS`], [`MAX_NAME_BYTES`], [`MAX_VALUE_BYTES`], and
    /// 770,036 bytes for all names and values with 6 bytes more for each field.
    #[must_use]
    pub fn with_field(mut self, name: impl Into<String>, value: impl Into<SecretText>) -> Self {
        self.set_field(name.into(), value.into());
        self
    }

    /// Sets the field `name`, in place of one of that name.
    pub(crate) fn set_field(&mut self, name: String, value: SecretText) {
        self.fields.insert(name, value);
    }

    /// The same credential with the fields of a JSON object of strings, read by way of wiped memory alone; `json` is the
    /// caller's to wipe.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `json` is no such object, or has a field twice; no value is repeated.
    pub fn with_json_fields(self, json: &str) -> Result<Self> {
        let members = json::read_object(json).map_err(|why| Error::new(ErrorKind::InvalidInput, why))?;
        Ok(members.into_iter().fold(self, |credential, (name, value)| credential.with_field(name, value)))
    }

    /// The same credential with the moment at which it expires, kept to the microsecond (rounded down), in the
    /// years 0001 to 9999 UTC.
    #[must_use]
    pub fn with_expiry(mut self, expires_at: impl Into<Option<OffsetDateTime>>) -> Self {
        self.expires_at = expires_at.into();
        self
    }

    /// The type.
    #[must_use]
    pub fn credential_type(&self) -> &CredentialType {
        &self.credential_type
    }

    /// The value of the field `name`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&SecretText> {
        self.fields.get(name)
    }

    /// All fields, ascending by the bytes of their names.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = (&str, &SecretText)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// When the credential expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.expires_at
    }

    /// The expiry as the database and the stored format keep it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` outside the years 0001 to 9999.
    pub(crate) fn expiry(&self) -> Result<Option<Timestamp>> {
        self.expires_at
            .map(|moment| {
                Timestamp::floor(moment).ok_or_else(|| {
                    Error::new(
                        ErrorKind::InvalidInput,
                        "a credential's expiry lies in the years 0001 to 9999 UTC",
                    )
                })
            })
            .transpose()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("credential_type", &self.credential_type)
            .field("fields", &self.fields)
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

/// A credential as it was read, with the revision to [update](crate::Organization::update) it by.
#[derive(Debug)]
pub struct Stored {
    /// The credential.
    pub credential: Credential,
    /// Which version of it this is.
    pub revision: Revision,
}

/// A version of a stored credential: every write, and every re-encryption, makes another.
///
/// Its text is safe to hand out, as an `ETag` for instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(String);

impl Revision {
    /// Characters of a stored text through its nonce: `cv1.` and the 44 bytes of the header.
    const CV1_CHARS: usize = 63;
    /// Characters of a legacy text through its nonce of 12 bytes.
    const LEGACY_CHARS: usize = 16;

    /// The revision of a stored text that was opened.
    pub(crate) fn of(stored: &str) -> Self {
        let chars = if stored.starts_with("cv1.") { Self::CV1_CHARS } else { Self::LEGACY_CHARS };
        Self(stored.get(..chars).unwrap_or(stored).to_owned())
    }

    /// The revision as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Revision {
    type Err = Error;

    /// Reads the text that [`Revision::as_str`] gave.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for any other.
    fn from_str(text: &str) -> Result<Self> {
        let chars = if text.starts_with("cv1.") { Self::CV1_CHARS } else { Self::LEGACY_CHARS };
        let base64 = |c: u8| c.is_ascii_alphanumeric() || b"+/-_.".contains(&c);
        if text.len() != chars || !text.bytes().all(base64) {
            return Err(Error::new(ErrorKind::InvalidInput, "this is no revision of a stored credential"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What the database says of a credential without opening it; nothing of this is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The integration that has the credential.
    pub integration_id: IntegrationId,
    /// The organization that has the integration.
    pub organization_id: OrganizationId,
    /// The integration's connector: `github`, `slack`, …
    pub connector_type: String,
    /// The credential's type.
    pub credential_type: CredentialType,
    /// The key that sealed it; `None` if the column holds no id of a key.
    pub key_id: Option<DataKeyId>,
    /// When it expires, by the column, which is an index to the sealed expiry.
    pub expires_at: Option<OffsetDateTime>,
    /// When the row was first written.
    pub created_at: OffsetDateTime,
    /// When the credential was last put or updated; re-encryption and transfer leave it.
    pub updated_at: OffsetDateTime,
}
