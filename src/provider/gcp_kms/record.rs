//! What a ciphertext of Google Cloud KMS is written as.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::name::VersionName;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::ProviderRecord;
use crate::provider::record_form::RecordForm;

const FORM: RecordForm =
    RecordForm { name: "gcp-kms", parts: "name$ciphertext", service: "Google Cloud KMS" };

/// The most bytes of a ciphertext: that of a key of 32 bytes has some hundred, and more under a key of an external manager.
const MAX_CIPHERTEXT_BYTES: usize = 8_192;

/// A master key as KMS encrypted it:
///
/// ```text
/// gcp-kms$v=1$ + the name of the key's version + $ + base64url( ciphertext 1..8192 ), without padding
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrapped {
    /// What KMS said that it encrypted with. It's not what is called, and the number in it is for people: nothing authenticates it.
    pub(super) version: VersionName,
    pub(super) ciphertext: Vec<u8>,
}

impl Wrapped {
    pub(super) fn to_record(&self) -> Result<ProviderRecord> {
        if !(1..=MAX_CIPHERTEXT_BYTES).contains(&self.ciphertext.len()) {
            return Err(Error::new(
                ErrorKind::Provider,
                format!("Google Cloud KMS gave a ciphertext of {} bytes", self.ciphertext.len()),
            ));
        }
        FORM.write([&self.version.to_string(), &URL_SAFE_NO_PAD.encode(&self.ciphertext)])
    }

    /// Reads a record, in the one form that [`to_record`](Self::to_record) writes.
    ///
    /// # Errors
    ///
    /// `Unsupported` for another algorithm or version, `Malformed` for anything else.
    pub(super) fn of_record(record: &ProviderRecord) -> Result<Self> {
        let [name, ciphertext] = FORM.read(record)?;
        let version = VersionName::read(name).ok_or_else(|| FORM.malformed())?;
        Ok(Self { version, ciphertext: FORM.bytes(ciphertext, MAX_CIPHERTEXT_BYTES)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "projects/p1/locations/global/keyRings/r/cryptoKeys/k/cryptoKeyVersions/3";

    fn read(text: &str) -> Result<Wrapped> {
        Wrapped::of_record(&ProviderRecord::new(text.to_owned()).unwrap())
    }

    fn of(ciphertext: usize) -> Wrapped {
        Wrapped { version: VersionName::read(NAME).unwrap(), ciphertext: vec![0xfe; ciphertext] }
    }

    #[test]
    fn a_record_is_read_in_its_one_form() {
        let text = of(4).to_record().unwrap().as_str().to_owned();
        assert_eq!(text, format!("gcp-kms$v=1${NAME}$_v7-_g"));
        assert_eq!(read(&text).unwrap(), of(4));
        for length in 0..=text.len() - 6 {
            let error = read(&text[..length]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported), "{length}");
        }
        for (other, kind) in [
            (format!("{text}\n"), ErrorKind::Malformed),
            (format!(" {text}"), ErrorKind::Unsupported),
            (format!("{text}=="), ErrorKind::Malformed),
            (format!("{text}$"), ErrorKind::Malformed),
            (text.replace("-_g", "-_h"), ErrorKind::Malformed),
            (text.replace("-_g", "+/g"), ErrorKind::Malformed),
            (text.replace("v=1", "v=2"), ErrorKind::Unsupported),
            (text.replace("v=1", "v=01"), ErrorKind::Unsupported),
            (text.replace("gcp-kms", "GCP-kms"), ErrorKind::Unsupported),
            (text.replace("Versions/3", "Versions/03"), ErrorKind::Malformed),
            (text.replace("/cryptoKeyVersions/3", ""), ErrorKind::Malformed),
            (text.replace("global", "../x"), ErrorKind::Malformed),
        ] {
            let error = read(&other).unwrap_err();
            assert_eq!(error.kind(), kind, "{other}");
            assert!(!error.to_string().contains("_v7"), "{error}");
        }
    }

    #[test]
    fn a_ciphertext_has_a_longest_length() {
        let longest = of(MAX_CIPHERTEXT_BYTES).to_record().unwrap();
        assert_eq!(Wrapped::of_record(&longest).unwrap(), of(MAX_CIPHERTEXT_BYTES));
        for length in [0, MAX_CIPHERTEXT_BYTES + 1] {
            assert_eq!(of(length).to_record().unwrap_err().kind(), ErrorKind::Provider);
            let text = format!("gcp-kms$v=1${NAME}${}", URL_SAFE_NO_PAD.encode(vec![0; length]));
            assert_eq!(read(&text).unwrap_err().kind(), ErrorKind::Malformed);
        }
    }

    proptest! {
        #[test]
        fn no_record_panics_and_each_has_one_text(
            text in "gcp-kms\\$v=1\\$projects/[a-z0-9:.]{1,4}/locations/[a-z]{1,3}/keyRings/[a-z_-]{1,3}/cryptoKeys/[a-z]{1,3}\
                     /cryptoKeyVersions/[0-9]{1,3}\\$[A-Za-z0-9_=-]{1,9}|\\PC*"
        ) {
            let text = text.replace('\0', "");
            if let Ok(wrapped) = read(&text) {
                let record = wrapped.to_record().unwrap();
                prop_assert_eq!(record.as_str(), text);
            }
        }
    }
}
