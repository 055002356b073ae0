//! What a ciphertext of a transit engine is written as.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::key::Key;
use crate::error::Result;
use crate::provider::ProviderRecord;
use crate::provider::record_form::RecordForm;

const FORM: RecordForm =
    RecordForm { name: "vault-transit", parts: "key$ciphertext", service: "a transit engine" };

/// The most bytes of a ciphertext: those of a key of 32 bytes are 60, with the nonce and the tag, or a few more.
const MAX_CIPHERTEXT_BYTES: usize = 1_024;

/// A key's ciphertext, as Vault and OpenBao write it: `vault:v` + the version of the key that encrypted it + `:` + base64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ciphertext {
    version: u32,
    bytes: Vec<u8>,
}

impl Ciphertext {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (digits, bytes) = text.strip_prefix("vault:v")?.split_once(':')?;
        let version = digits.parse().ok().filter(|version: &u32| *version > 0)?;
        let longest = base64::encoded_len(MAX_CIPHERTEXT_BYTES, true).unwrap_or(usize::MAX);
        if digits != version.to_string() || !(1..=longest).contains(&bytes.len()) {
            return None;
        }
        let bytes = STANDARD.decode(bytes).ok().filter(|bytes| bytes.len() <= MAX_CIPHERTEXT_BYTES)?;
        Some(Self { version, bytes })
    }

    pub(super) fn version(&self) -> u32 {
        self.version
    }
}

impl fmt::Display for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vault:v{}:{}", self.version, STANDARD.encode(&self.bytes))
    }
}

/// A master key as a transit engine encrypted it:
///
/// ```text
/// vault-transit$v=1$ + https://HOST[:PORT]/MOUNT/KEY + $ + vault:vN: + base64( ciphertext 1..1024 )
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrapped {
    /// Where it was made, which is authenticated. It's not what is called: a server that moved opens what it made before.
    pub(super) key: Key,
    pub(super) ciphertext: Ciphertext,
}

impl Wrapped {
    pub(super) fn to_record(&self) -> Result<ProviderRecord> {
        FORM.write([&self.key.to_string(), &self.ciphertext.to_string()])
    }

    /// Reads a record, in the one form that [`to_record`](Self::to_record) writes.
    ///
    /// # Errors
    ///
    /// `Unsupported` for another algorithm or version, `Malformed` for anything else.
    pub(super) fn of_record(record: &ProviderRecord) -> Result<Self> {
        let [key, ciphertext] = FORM.read(record)?;
        match (Key::parse(key), Ciphertext::parse(ciphertext)) {
            (Some(key), Some(ciphertext)) => Ok(Self { key, ciphertext }),
            _ => Err(FORM.malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    const KEY: &str = "https://bao.example:8200/transit/credvault";

    fn read(text: &str) -> Result<Wrapped> {
        Wrapped::of_record(&ProviderRecord::new(text.to_owned()).unwrap())
    }

    fn of(ciphertext: usize) -> Wrapped {
        let ciphertext = Ciphertext { version: 7, bytes: vec![0xfe; ciphertext] };
        Wrapped { key: Key::read(KEY).unwrap(), ciphertext }
    }

    #[test]
    fn a_record_is_read_in_its_one_form() {
        let text = of(4).to_record().unwrap().as_str().to_owned();
        assert_eq!(text, format!("vault-transit$v=1${KEY}$vault:v7:/v7+/g=="));
        assert_eq!(read(&text).unwrap(), of(4));
        // Four characters less are three bytes less: that is found out by who decrypts it.
        for length in (0..text.len()).filter(|length| text.len() - length != 4) {
            let error = read(&text[..length]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported), "{length}");
        }
        for (other, kind) in [
            (format!("{text}\n"), ErrorKind::Malformed),
            (format!(" {text}"), ErrorKind::Unsupported),
            (format!("{text}="), ErrorKind::Malformed),
            (format!("{text}$"), ErrorKind::Malformed),
            (text.replace("/g==", "/h=="), ErrorKind::Malformed),
            (text.replace("/v7+/g==", "_v7-_g=="), ErrorKind::Malformed),
            (text.replace("v=1", "v=2"), ErrorKind::Unsupported),
            (text.replace("v=1", "v=01"), ErrorKind::Unsupported),
            (text.replace("vault-transit", "Vault-transit"), ErrorKind::Unsupported),
            (text.replace(":v7:", ":v07:"), ErrorKind::Malformed),
            (text.replace(":v7:", ":v+7:"), ErrorKind::Malformed),
            (text.replace(":v7:", ":v0:"), ErrorKind::Malformed),
            (text.replace(":v7:", ":v:"), ErrorKind::Malformed),
            (text.replace(":v7:", ":v4294967296:"), ErrorKind::Malformed),
            (text.replace("vault:v", "bao:v"), ErrorKind::Malformed),
            (text.replace("/transit/", "/"), ErrorKind::Malformed),
            (text.replace("https:", "http:"), ErrorKind::Malformed),
        ] {
            let error = read(&other).unwrap_err();
            assert_eq!(error.kind(), kind, "{other}");
            assert!(!error.to_string().contains("v7+"), "{error}");
        }
    }

    #[test]
    fn a_ciphertext_has_a_bound() {
        let longest = of(MAX_CIPHERTEXT_BYTES).to_record().unwrap();
        assert_eq!(Wrapped::of_record(&longest).unwrap(), of(MAX_CIPHERTEXT_BYTES));
        for length in [0, MAX_CIPHERTEXT_BYTES + 1] {
            let text = of(length).to_record().unwrap();
            assert_eq!(Wrapped::of_record(&text).unwrap_err().kind(), ErrorKind::Malformed, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_record_panics_and_each_has_one_text(
            text in "vault-transit.v=1.https://[a-z0-9.:]{1,9}/[a-z/.]{1,9}.vault:v[0-9]{1,3}:[A-Za-z0-9+/=]{1,12}|\
                vault-transit\\$v=1\\$https://[a-z]{1,3}/t/k\\$vault:v[1-9]:([A-Za-z0-9+/]{4}){1,3}|\\PC*"
        ) {
            let text = text.replace('\0', "");
            if let Ok(wrapped) = read(&text) {
                let record = wrapped.to_record().unwrap();
                prop_assert_eq!(record.as_str(), text);
            }
        }
    }
}
