//! What a token's ciphertext of a master key is written as.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::Result;
use crate::provider::record_form::RecordForm;
use crate::provider::{KEY_BYTES, ProviderRecord};

/// The initialization vector, in bytes: what NIST SP 800-38D, section 5.2.1.1, recommends.
pub(super) const IV_BYTES: usize = 12;

/// The authentication tag, in bytes: the longest that GCM has.
const TAG_BYTES: usize = 16;

/// The key, encrypted, and the tag behind it.
pub(super) const CIPHERTEXT_BYTES: usize = KEY_BYTES + TAG_BYTES;

const FORM: RecordForm =
    RecordForm { name: "pkcs11-aes-gcm", parts: "iv$ciphertext", service: "a PKCS#11 token" };

/// A master key as a token's key encrypted it:
///
/// ```text
/// pkcs11-aes-gcm$v=1$ + base64url( iv 12 ) + $ + base64url( ciphertext 32, tag 16 )
/// ```
///
/// Both are whole groups of 3 bytes, so there is no padding, and each has one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) iv: [u8; IV_BYTES],
    pub(super) ciphertext: [u8; CIPHERTEXT_BYTES],
}

impl Sealed {
    pub(super) fn to_record(&self) -> Result<ProviderRecord> {
        FORM.write([&URL_SAFE_NO_PAD.encode(self.iv), &URL_SAFE_NO_PAD.encode(self.ciphertext)])
    }

    /// Reads a record, in the one form that [`to_record`](Self::to_record) writes.
    ///
    /// # Errors
    ///
    /// `Unsupported` for another algorithm or version, `Malformed` for anything else.
    pub(super) fn of_record(record: &ProviderRecord) -> Result<Self> {
        let [iv, ciphertext] = FORM.read(record)?;
        Ok(Self {
            iv: decoded(iv).ok_or_else(|| FORM.malformed())?,
            ciphertext: decoded(ciphertext).ok_or_else(|| FORM.malformed())?,
        })
    }
}

/// Exactly `N` bytes, which are whole groups of 3: no bits are left over that could differ.
fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    (URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(N)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    fn read(text: &str) -> Result<Sealed> {
        Sealed::of_record(&ProviderRecord::new(text.to_owned()).unwrap())
    }

    fn text() -> String {
        let sealed = Sealed { iv: [1; IV_BYTES], ciphertext: [0xfe; CIPHERTEXT_BYTES] };
        sealed.to_record().unwrap().as_str().to_owned()
    }

    #[test]
    fn a_record_is_read_in_its_one_form() {
        let text = text();
        assert_eq!(text, format!("pkcs11-aes-gcm$v=1$AQEBAQEBAQEBAQEB${}", "_v7-".repeat(16)));
        assert_eq!(read(&text).unwrap().to_record().unwrap().as_str(), text);
        for length in 0..text.len() {
            let error = read(&text[..length]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported), "{length}");
        }
        for (other, kind) in [
            (format!("{text}\n"), ErrorKind::Malformed),
            (format!(" {text}"), ErrorKind::Unsupported),
            (format!("{text}="), ErrorKind::Malformed),
            (format!("{text}$"), ErrorKind::Malformed),
            (format!("{text}AAAA"), ErrorKind::Malformed),
            (text.replace('_', "/"), ErrorKind::Malformed),
            (text.replace("v=1", "v=2"), ErrorKind::Unsupported),
            (text.replace("v=1", "v=01"), ErrorKind::Unsupported),
            (text.replace("gcm", "GCM"), ErrorKind::Unsupported),
            (text.replace("AQEB$", "AQE$"), ErrorKind::Malformed),
            (String::new(), ErrorKind::Malformed),
        ] {
            let error = read(&other).unwrap_err();
            assert_eq!(error.kind(), kind, "{other}");
            assert!(!error.to_string().contains("AQEB"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_record_panics_and_each_has_one_text(text in "pkcs11-aes-gcm.v=1.[A-Za-z0-9_=-]{16}.[A-Za-z0-9_-]{64}|\\PC*") {
            let text = text.replace('\0', "");
            if let Ok(sealed) = read(&text) {
                let record = sealed.to_record().unwrap();
                prop_assert_eq!(record.as_str(), text);
            }
        }
    }
}
