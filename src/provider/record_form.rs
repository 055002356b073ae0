//! The form that the records of key services share: `NAME$v=1$PART$PART…`, with bytes as base64url (RFC 4648, section 5)
//! without padding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::ProviderRecord;
use crate::error::{Error, ErrorKind, Result};

const VERSION: &str = "v=1";

/// What the records of one service look like.
pub(super) struct RecordForm {
    /// What each begins with.
    pub(super) name: &'static str,
    /// The names of its parts, for people: `arn$ciphertext`.
    pub(super) parts: &'static str,
    /// Whose they are, for people: `AWS KMS`.
    pub(super) service: &'static str,
}

impl RecordForm {
    /// A record of these parts, none of which has a `$` in it.
    pub(super) fn write<const N: usize>(&self, parts: [&str; N]) -> Result<ProviderRecord> {
        ProviderRecord::new(format!("{}${VERSION}${}", self.name, parts.join("$")))
    }

    /// The parts of a record.
    ///
    /// # Errors
    ///
    /// `Unsupported` for another name or version, `Malformed` for another number of parts.
    pub(super) fn read<'a, const N: usize>(&self, record: &'a ProviderRecord) -> Result<[&'a str; N]> {
        // One more than there may be, which has whatever follows.
        let parts: Vec<&str> = record.as_str().splitn(N + 3, '$').collect();
        let (head, parts) = parts.split_first_chunk::<2>().ok_or_else(|| self.malformed())?;
        let parts = parts.try_into().map_err(|_| self.malformed())?;
        if *head != [self.name, VERSION] {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("only records of {}, version 1, are opened by {}", self.name, self.service),
            ));
        }
        Ok(parts)
    }

    /// The bytes of a part, one at least.
    ///
    /// # Errors
    ///
    /// `Malformed` if there are none, or more than `most`, or it is not their one text.
    pub(super) fn bytes(&self, text: &str, most: usize) -> Result<Vec<u8>> {
        let longest = base64::encoded_len(most, false).unwrap_or(usize::MAX);
        let decoded = (1..=longest).contains(&text.len()).then(|| URL_SAFE_NO_PAD.decode(text));
        decoded.and_then(std::result::Result::ok).ok_or_else(|| self.malformed())
    }

    /// For what isn't written as a record of this service.
    pub(super) fn malformed(&self) -> Error {
        let what = format!(
            "not `{}${VERSION}${}` as a record of {} is written",
            self.name, self.parts, self.service
        );
        Error::new(ErrorKind::Malformed, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: RecordForm = RecordForm { name: "form", parts: "one$two", service: "a service" };

    fn read(text: &str) -> Result<[String; 2]> {
        FORM.read(&ProviderRecord::new(text.to_owned())?).map(|parts| parts.map(str::to_owned))
    }

    #[test]
    fn a_record_has_its_name_its_version_and_so_many_parts() {
        assert_eq!(FORM.write(["a", "b"]).unwrap().as_str(), "form$v=1$a$b");
        assert_eq!(read("form$v=1$a$b").unwrap(), ["a", "b"]);
        assert_eq!(read("form$v=1$$").unwrap(), ["", ""]);
        for text in ["", "form", "form$v=1", "form$v=1$a", "form$v=1$a$b$", "form$v=1$a$b$c$d", "firm$v=1$a"]
        {
            assert_eq!(read(text).unwrap_err().kind(), ErrorKind::Malformed, "{text}");
        }
        for text in ["firm$v=1$a$b", "form$v=2$a$b", "form$v=01$a$b", " form$v=1$a$b", "$$$"] {
            assert_eq!(read(text).unwrap_err().kind(), ErrorKind::Unsupported, "{text}");
        }
    }

    #[test]
    fn bytes_have_one_text_and_a_bound() {
        assert_eq!(FORM.bytes("_v7-_g", 4).unwrap(), [0xfe; 4]);
        for text in ["", "_v7-_h", "+v7-_g", "_v7-_g==", "_v7-_v4"] {
            let error = FORM.bytes(text, 4).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
            assert_eq!(error.to_string(), "not `form$v=1$one$two` as a record of a service is written");
        }
    }
}
