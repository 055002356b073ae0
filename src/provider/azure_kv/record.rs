//! What a master key that Azure wrapped is written as, and what binds it to its vault.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::key::{Key, Version};
use crate::crypto::key_bytes::KeyBytes;
use crate::crypto::memory::with_wiped_stack;
use crate::crypto::subkeys::{MAC_BYTES, MacKey, pae};
use crate::error::{Error, ErrorKind, Result};
use crate::provider::ProviderRecord;
use crate::provider::record_form::RecordForm;

const PROVIDER: &str = "azure-kv";
const FORM: RecordForm =
    RecordForm { name: PROVIDER, parts: "algorithm$id$wrapped$commitment", service: "Azure Key Vault" };

/// The base64url of what the largest RSA key wraps, 512 bytes.
const MAX_WRAPPED_CHARS: usize = 683;

/// A master key as a key of Azure wrapped it:
///
/// ```text
/// azure-kv$v=1$ + algorithm + $ + id of the key, with its version + $ + base64url( wrapped ) + $ + base64url( commitment 32 )
/// ```
///
/// without padding. Neither algorithm takes associated data, and who has an RSA key's public half can wrap with it. So the
/// master key itself says what it is wrapped for:
///
/// ```text
/// commitment = HMAC-SHA-256( K_record, PAE("azure-kv", algorithm, id, wrapped, context) )
/// K_record   = HKDF-SHA-256( master key, no salt, PAE("credvault/v1/provider-record") )
/// ```
///
/// where the context is [`associated_data`](crate::provider::ProviderContext::associated_data).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrapped {
    /// The key that answered, for comparison. What is called is the provider's own, at this version.
    pub(super) key: Key,
    pub(super) version: Version,
    pub(super) ciphertext: Vec<u8>,
    commitment: [u8; MAC_BYTES],
}

impl Wrapped {
    /// What `key` made of the master key `plaintext`, for `context`.
    ///
    /// # Errors
    ///
    /// `Provider` if it has not the size of any.
    pub(super) fn new(
        key: Key,
        version: Version,
        ciphertext: Vec<u8>,
        plaintext: &KeyBytes,
        context: &[u8],
    ) -> Result<Self> {
        if !key.algorithm().makes(ciphertext.len()) {
            let what = format!("{} bytes are no key that {} wrapped", ciphertext.len(), key.algorithm());
            return Err(Error::new(ErrorKind::Provider, what));
        }
        let mut wrapped = Self { key, version, ciphertext, commitment: [0; MAC_BYTES] };
        let text = wrapped.committed(context);
        wrapped.commitment = with_wiped_stack(|| MacKey::of_record(plaintext.expose()).mac(&[&text]));
        Ok(wrapped)
    }

    /// Whether `plaintext` was wrapped for `context`, by this key, as this.
    pub(super) fn is_of(&self, plaintext: &KeyBytes, context: &[u8]) -> bool {
        let text = self.committed(context);
        with_wiped_stack(|| MacKey::of_record(plaintext.expose()).verify(&text, &self.commitment))
    }

    fn committed(&self, context: &[u8]) -> Vec<u8> {
        let id = self.key.id(&self.version);
        let algorithm = self.key.algorithm().as_str();
        pae([PROVIDER.as_bytes(), algorithm.as_bytes(), id.as_bytes(), &self.ciphertext, context])
    }

    pub(super) fn to_record(&self) -> Result<ProviderRecord> {
        FORM.write([
            self.key.algorithm().as_str(),
            &self.key.id(&self.version),
            &URL_SAFE_NO_PAD.encode(&self.ciphertext),
            &URL_SAFE_NO_PAD.encode(self.commitment),
        ])
    }

    /// Reads a record, in the one form that [`to_record`](Self::to_record) writes.
    ///
    /// # Errors
    ///
    /// `Unsupported` for another provider or version, `Malformed` for anything else.
    pub(super) fn of_record(record: &ProviderRecord) -> Result<Self> {
        let [algorithm, id, ciphertext, commitment] = FORM.read(record)?;
        let (key, version) = Key::of_id(id).ok_or_else(|| FORM.malformed())?;
        // An id has one text, in which the host is in lower case.
        if key.id(&version) != id
            || key.algorithm().as_str() != algorithm
            || ciphertext.len() > MAX_WRAPPED_CHARS
        {
            return Err(FORM.malformed());
        }
        let ciphertext = URL_SAFE_NO_PAD.decode(ciphertext).map_err(|_| FORM.malformed())?;
        if !key.algorithm().makes(ciphertext.len()) {
            return Err(FORM.malformed());
        }
        let mut bytes = [0; MAC_BYTES];
        match URL_SAFE_NO_PAD.decode_slice(commitment, &mut bytes) {
            Ok(MAC_BYTES) => Ok(Self { key, version, ciphertext, commitment: bytes }),
            _ => Err(FORM.malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "https://contoso.vault.azure.net/keys/credvault/0123456789abcdef0123456789abcdef";
    const HSM_ID: &str =
        "https://contoso.managedhsm.azure.net/keys/credvault/0123456789abcdef0123456789abcdef";

    fn read(text: &str) -> Result<Wrapped> {
        Wrapped::of_record(&ProviderRecord::new(text.to_owned()).unwrap())
    }

    fn master_key() -> KeyBytes {
        KeyBytes::copy_of(&[7; 32]).unwrap()
    }

    fn wrapped(id: &str, bytes: usize) -> Result<Wrapped> {
        let (key, version) = Key::of_id(id).unwrap();
        Wrapped::new(key, version, vec![0xfe; bytes], &master_key(), b"context")
    }

    #[test]
    fn a_record_is_read_in_its_one_form() {
        let text = wrapped(HSM_ID, 40).unwrap().to_record().unwrap().as_str().to_owned();
        assert!(text.starts_with(&format!("azure-kv$v=1$A256KW${HSM_ID}$_v7-_v7-")), "{text}");
        assert_eq!(read(&text).unwrap(), wrapped(HSM_ID, 40).unwrap());
        for length in 0..text.len() {
            let error = read(&text[..length]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Malformed | ErrorKind::Unsupported), "{length}");
        }
        for (other, kind) in [
            (format!("{text}\n"), ErrorKind::Malformed),
            (format!(" {text}"), ErrorKind::Unsupported),
            (format!("{text}="), ErrorKind::Malformed),
            (format!("{text}$"), ErrorKind::Malformed),
            (text.replace("_v7-_v7-", "/v7+/v7+"), ErrorKind::Malformed),
            (text.replace("v=1", "v=2"), ErrorKind::Unsupported),
            (text.replace("v=1", "v=01"), ErrorKind::Unsupported),
            (text.replace("azure-kv", "AZURE-kv"), ErrorKind::Unsupported),
            (text.replace("A256KW", "RSA-OAEP-256"), ErrorKind::Malformed),
            (text.replace("A256KW", "RSA1_5"), ErrorKind::Malformed),
            (text.replace("contoso", "Contoso"), ErrorKind::Malformed),
            (text.replace("managedhsm.azure.net", "evil.example"), ErrorKind::Malformed),
            (text.replace("/0123456789abcdef0123456789abcdef", ""), ErrorKind::Malformed),
            (text.replace("_v7-_v7-", ""), ErrorKind::Malformed),
        ] {
            let error = read(&other).unwrap_err();
            assert_eq!(error.kind(), kind, "{other}");
            assert!(!error.to_string().contains("_v7"), "{error}");
        }
    }

    #[test]
    fn a_wrapped_key_has_a_size_that_its_algorithm_makes() {
        for bytes in [256, 384, 512] {
            let record = wrapped(ID, bytes).unwrap().to_record().unwrap();
            assert_eq!(Wrapped::of_record(&record).unwrap(), wrapped(ID, bytes).unwrap());
        }
        for (id, bytes) in
            [(ID, 0), (ID, 40), (ID, 255), (ID, 513), (HSM_ID, 32), (HSM_ID, 41), (HSM_ID, 256)]
        {
            assert_eq!(wrapped(id, bytes).unwrap_err().kind(), ErrorKind::Provider, "{bytes}");
            let (right, size) = if id == ID { (256, 342) } else { (40, 54) };
            let text = wrapped(id, right).unwrap().to_record().unwrap().as_str().to_owned();
            let from = text.find("$_v").unwrap() + 1;
            let other = format!(
                "{}{}{}",
                &text[..from],
                URL_SAFE_NO_PAD.encode(vec![0; bytes]),
                &text[from + size..]
            );
            assert_eq!(read(&other).unwrap_err().kind(), ErrorKind::Malformed, "{bytes}");
        }
    }

    #[test]
    fn a_commitment_holds_every_part_of_its_record_and_the_context() {
        let one = wrapped(HSM_ID, 40).unwrap();
        assert!(one.is_of(&master_key(), b"context"));
        assert!(!one.is_of(&master_key(), b"contexts"));
        assert!(!one.is_of(&KeyBytes::copy_of(&[8; 32]).unwrap(), b"context"));
        let mut others = vec![one.clone(); 4];
        others[0].ciphertext[39] ^= 1;
        others[1].commitment[31] ^= 1;
        others[2].version = Key::of_id(&HSM_ID.replace("0123", "4567")).unwrap().1;
        others[3].key = Key::of_id(&HSM_ID.replace("credvault", "others")).unwrap().0;
        for other in others {
            assert!(!other.is_of(&master_key(), b"context"), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn no_record_panics_and_each_has_one_text(
            text in "azure-kv.v=1.A256KW.https://[a-z]{1,3}\\.managedhsm\\.azure\\.net/keys/[a-zA-Z]{1,3}/[0-9a-f]{31,32}\
                     \\$[A-Za-z0-9_-]{53,54}\\$[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048B]|\\PC*"
        ) {
            let text = text.replace('\0', "");
            if let Ok(wrapped) = read(&text) {
                let record = wrapped.to_record().unwrap();
                prop_assert_eq!(record.as_str(), text);
            }
        }
    }
}
