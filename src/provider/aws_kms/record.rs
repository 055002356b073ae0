//! What a ciphertext of AWS KMS is written as.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::key::KeyArn;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::ProviderRecord;
use crate::provider::record_form::RecordForm;

const FORM: RecordForm = RecordForm { name: "aws-kms", parts: "arn$ciphertext", service: "AWS KMS" };

/// The most bytes that `Decrypt` takes, by the API's reference; those of a key of 32 bytes are some 200.
const MAX_CIPHERTEXT_BYTES: usize = 6_144;

/// A master key as KMS encrypted it:
///
/// ```text
/// aws-kms$v=1$ + the ARN of the key + $ + base64url( ciphertext 1..6144 ), without padding
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrapped {
    /// What KMS said that it encrypted with. It's not what is called.
    pub(super) key: KeyArn,
    pub(super) ciphertext: Vec<u8>,
}

impl Wrapped {
    pub(super) fn to_record(&self) -> Result<ProviderRecord> {
        if !(1..=MAX_CIPHERTEXT_BYTES).contains(&self.ciphertext.len()) {
            return Err(Error::new(
                ErrorKind::Provider,
                format!("AWS KMS gave a ciphertext of {} bytes", self.ciphertext.len()),
            ));
        }
        FORM.write([&self.key.to_string(), &URL_SAFE_NO_PAD.encode(&self.ciphertext)])
    }

    /// Reads a record, in the one form that [`to_record`](Self::to_record) writes.
    ///
    /// # Errors
    ///
    /// `Unsupported` for another algorithm or version, `Malformed` for anything else.
    pub(super) fn of_record(record: &ProviderRecord) -> Result<Self> {
        let [key, ciphertext] = FORM.read(record)?;
        let key = KeyArn::read(key).ok_or_else(|| FORM.malformed())?;
        Ok(Self { key, ciphertext: FORM.bytes(ciphertext, MAX_CIPHERTEXT_BYTES)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    fn read(text: &str) -> Result<Wrapped> {
        Wrapped::of_record(&ProviderRecord::new(text.to_owned()).unwrap())
    }

    fn of(ciphertext: usize) -> Wrapped {
        Wrapped { key: KeyArn::read(ARN).unwrap(), ciphertext: vec![0xfe; ciphertext] }
    }

    #[test]
    fn a_record_is_read_in_its_one_form() {
        let text = of(4).to_record().unwrap().as_str().to_owned();
        assert_eq!(text, format!("aws-kms$v=1${ARN}$_v7-_g"));
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
            (text.replace("aws-kms", "AWS-kms"), ErrorKind::Unsupported),
            (text.replace("key/", "alias/"), ErrorKind::Malformed),
            (text.replace("1111", ""), ErrorKind::Malformed),
        ] {
            let error = read(&other).unwrap_err();
            assert_eq!(error.kind(), kind, "{other}");
            assert!(!error.to_string().contains("_v7"), "{error}");
        }
    }

    #[test]
    fn a_ciphertext_is_as_long_as_kms_takes_at_most() {
        let longest = of(MAX_CIPHERTEXT_BYTES).to_record().unwrap();
        assert_eq!(Wrapped::of_record(&longest).unwrap(), of(MAX_CIPHERTEXT_BYTES));
        for length in [0, MAX_CIPHERTEXT_BYTES + 1] {
            assert_eq!(of(length).to_record().unwrap_err().kind(), ErrorKind::Provider);
            let text = format!("aws-kms$v=1${ARN}${}", URL_SAFE_NO_PAD.encode(vec![0; length]));
            assert_eq!(read(&text).unwrap_err().kind(), ErrorKind::Malformed);
        }
    }

    proptest! {
        #[test]
        fn no_record_panics_and_each_has_one_text(
            text in "aws-kms.v=1.arn:aws:kms:[a-z]{1,3}:[0-9]{12}:key/[a-z0-9-]{1,9}.[A-Za-z0-9_=-]{1,9}|\\PC*"
        ) {
            let text = text.replace('\0', "");
            if let Ok(wrapped) = read(&text) {
                let record = wrapped.to_record().unwrap();
                prop_assert_eq!(record.as_str(), text);
            }
        }
    }
}
