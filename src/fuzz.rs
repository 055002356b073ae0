//! The parsers of what an attacker can write, for the project's own property tests and fuzz targets; no part of its API.

mod seeds;

#[cfg(test)]
mod properties;

use crate::credential::CredentialLine;
use crate::envelope::canonical::{legacy_row_again, payload_again, row_again, wrapped_key_again};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::provider::canonical::{key_file_again, passphrase_record_again};
use crate::secret::ExposeSecret;
use crate::{provider, store};

/// A parser, by what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parser {
    /// A row's text: whoever writes to the table.
    Row,
    /// What a row's text seals: whoever has its key.
    Payload,
    /// The text of a row of the service that was there before.
    LegacyRow,
    /// A wrapped key's text.
    WrappedKey,
    /// The record of a passphrase's master key.
    PassphraseRecord,
    /// A key file.
    KeyFile,
    /// What says where a master key is.
    MasterKeySpec,
    /// What says where the database is.
    DatabaseUrl,
    /// An object of strings: a put's standard input, a legacy row's plaintext.
    JsonObject,
    /// A line of a bulk import.
    CredentialLine,
}

impl Parser {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Row,
        Self::Payload,
        Self::LegacyRow,
        Self::WrappedKey,
        Self::PassphraseRecord,
        Self::KeyFile,
        Self::MasterKeySpec,
        Self::DatabaseUrl,
        Self::JsonObject,
        Self::CredentialLine,
    ];

    /// Whether there is one text only for each thing: what is read is written as it was.
    #[must_use]
    pub fn has_one_form(self) -> bool {
        !matches!(self, Self::KeyFile | Self::JsonObject | Self::CredentialLine)
    }

    /// Inputs to begin with, of which it takes some: the vectors of the format, and what the manual shows.
    #[must_use]
    pub fn seeds(self) -> Vec<Vec<u8>> {
        seeds::of(self)
    }

    /// What is read, written again; empty if it can't be written. A place has no other form than its own.
    ///
    /// # Errors
    ///
    /// Those of the parser.
    pub fn again(self, input: &[u8]) -> Result<Vec<u8>> {
        let text = || std::str::from_utf8(input).map_err(|_| invalid("this is not UTF-8".to_owned()));
        let again = match self {
            Self::Payload => return payload_again(input),
            Self::KeyFile => key_file_again(input)?,
            Self::Row => row_again(text()?)?,
            Self::LegacyRow => legacy_row_again(text()?)?,
            Self::WrappedKey => wrapped_key_again(text()?)?,
            Self::PassphraseRecord => passphrase_record_again(text()?)?,
            Self::MasterKeySpec => provider::from_spec(text()?).map(|_| text().map(str::to_owned))??,
            Self::DatabaseUrl => store::check_url(text()?).map(|()| text().map(str::to_owned))??,
            Self::JsonObject => {
                let members = json::read_object(text()?).map_err(invalid)?;
                let mut object = String::from("{");
                json::push_members(&mut object, members.iter().map(|(name, value)| (name.as_str(), value)));
                object + "}"
            }
            Self::CredentialLine => {
                let line = CredentialLine::parse(text()?)?;
                line.to_json().map(|line| line.expose_secret().to_owned()).unwrap_or_default()
            }
        };
        Ok(again.into_bytes())
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}
