//! What is derived from a key of the hierarchy: HKDF-SHA-256 for its subkeys, HMAC-SHA-256 for commitments and
//! key checks, PAE for all that is authenticated.

use std::sync::Arc;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::key_bytes::KEY_BYTES;
use super::locked::Locked;
use super::memory::write;
use super::xaes::XaesKey;

/// The size of HMAC-SHA-256's output, in bytes.
pub(crate) const MAC_BYTES: usize = 32;

/// The block of SHA-256, in bytes: HMAC pads shorter keys with zeros to it.
const BLOCK_BYTES: usize = 64;

/// What a key is for, which its subkeys and every header name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A data key seals credential rows.
    Row,
    /// A master key wraps data keys.
    DataKey,
}

impl Purpose {
    /// The header's byte `suite`.
    pub(crate) const fn suite(self) -> u8 {
        match self {
            Self::Row => 1,
            Self::DataKey => 2,
        }
    }

    /// The header's byte `object`.
    pub(crate) const fn object(self) -> u8 {
        match self {
            Self::Row => 1,
            Self::DataKey => 2,
        }
    }
}

/// PASETO's pre-authentication encoding, which no two lists of parts share.
///
/// ```text
/// u64le count | count × (u64le length, bytes)
/// ```
pub(crate) fn pae<const PARTS: usize>(parts: [&[u8]; PARTS]) -> Vec<u8> {
    with_pae(parts, <[u8]>::to_vec)
}

/// The most bytes of an encoding that stands on the stack: a row's has 197 and its type.
const SHORT_BYTES: usize = 224;

/// What `work` gives for the [`pae`] of the parts, which takes no memory of its own where it is short.
#[inline]
pub(crate) fn with_pae<T, const PARTS: usize>(parts: [&[u8]; PARTS], work: impl FnOnce(&[u8]) -> T) -> T {
    let bytes = 8 + parts.iter().map(|part| part.len() + 8).sum::<usize>();
    let (mut short, mut long) = ([0; SHORT_BYTES], Vec::new());
    let encoded = if bytes <= SHORT_BYTES {
        &mut short[..bytes]
    } else {
        long.resize(bytes, 0);
        &mut long[..]
    };
    let mut rest = write(encoded, &(PARTS as u64).to_le_bytes());
    for part in parts {
        rest = write(rest, &(part.len() as u64).to_le_bytes());
        rest = write(rest, part);
    }
    work(encoded)
}

/// A key of HMAC-SHA-256, as the two states that it begins with.
pub(crate) struct MacKey(Hmac<Sha256>);

impl MacKey {
    fn new(key: &[u8; KEY_BYTES]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK_BYTES]);
        block[..KEY_BYTES].copy_from_slice(key);
        Self(Hmac::new((&*block).into()))
    }

    /// The key of what commits a provider's record to the master key in it, where the key service authenticates nothing
    /// beside what it wraps.
    #[cfg(feature = "azure-kv")]
    pub(crate) fn of_record(master_key: &[u8; KEY_BYTES]) -> Self {
        let [key] = &*hkdf(master_key, &pae([b"credvault/v1/provider-record"]));
        Self::new(key)
    }

    /// The MAC of the parts, one after the other.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let mut state = self.0.clone();
        for part in parts {
            state.update(part);
        }
        state.finalize().into_bytes().into()
    }

    /// Whether `mac` begins the message's and is not empty; takes the same time wherever they differ.
    pub(crate) fn verify(&self, message: &[u8], mac: &[u8]) -> bool {
        let mut state = self.0.clone();
        state.update(message);
        state.verify_truncated_left(mac).is_ok()
    }
}

/// The subkeys of a key, where they stay at once: a value that moves leaves a copy behind.
pub(crate) struct Subkeys {
    pub(crate) aead: Arc<Locked<XaesKey>>,
    pub(crate) commit: Locked<MacKey>,
    pub(crate) check: Locked<MacKey>,
}

impl Subkeys {
    /// The subkeys of `key` for `purpose`; `id` is the key's.
    pub(crate) fn derive(key: &[u8; KEY_BYTES], purpose: Purpose, id: &[u8; 16]) -> Self {
        let subkeys = hkdf(key, &info(purpose, id));
        let [aead, commit, check] = &*subkeys;
        Self {
            aead: Arc::new(Locked::new(XaesKey::new(aead))),
            commit: Locked::new(MacKey::new(commit)),
            check: Locked::new(MacKey::new(check)),
        }
    }
}

/// What the subkeys of a key are bound to.
fn info(purpose: Purpose, id: &[u8; 16]) -> Vec<u8> {
    pae([b"credvault/v1/subkeys", &[purpose.suite(), purpose.object()], id])
}

/// HKDF-SHA-256 (RFC 5869) without salt: keys of 32 bytes, three at most.
#[expect(clippy::expect_used, reason = "RFC 5869 gives up to 255 × 32 bytes, and these are 3 × 32 at most")]
fn hkdf<const KEYS: usize>(key_material: &[u8], info: &[u8]) -> Zeroizing<[[u8; KEY_BYTES]; KEYS]> {
    const { assert!(KEYS <= 3) };
    let mut okm = Zeroizing::new([[0; KEY_BYTES]; KEYS]);
    Hkdf::<Sha256>::new(None, key_material).expand(info, okm.as_flattened_mut()).expect("96 bytes are few");
    okm
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `K_aead`, which nothing but a test may ask for.
    pub(crate) fn aead_key(
        key: &[u8; KEY_BYTES],
        purpose: Purpose,
        id: &[u8; 16],
    ) -> Zeroizing<[u8; KEY_BYTES]> {
        Zeroizing::new(hkdf::<3>(key, &info(purpose, id))[0])
    }

    #[test]
    fn the_subkeys_of_the_vectors_are_derived() {
        let vectors = include_str!("../../tests/vectors/vectors.json");
        let vectors: serde_json::Value = serde_json::from_str(vectors).unwrap();
        let bytes = |text: &serde_json::Value| -> Vec<u8> {
            let digits = text.as_str().unwrap().replace('-', "");
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
            (0..digits.len()).step_by(2).map(byte).collect()
        };
        let id = bytes(&vectors["data_key_id"]).try_into().unwrap();
        let derived = hkdf::<3>(&bytes(&vectors["data_key"]), &info(Purpose::Row, &id));
        let expected = &vectors["data_key_subkeys"];
        let expected = ["k_aead", "k_commit", "k_check"].map(|name| bytes(&expected[name]));
        assert_eq!(derived.each_ref().map(|subkey| subkey.to_vec()), expected);
    }

    #[test]
    fn an_empty_or_too_long_mac_never_verifies() {
        let key = MacKey::new(&[7; KEY_BYTES]);
        let mac = key.mac(&[b"message"]);
        assert!(key.verify(b"message", &mac));
        assert!(key.verify(b"message", &mac[..16]));
        assert!(!key.verify(b"message", &[]));
        assert!(!key.verify(b"message", &[&mac[..], &[0]].concat()));
        assert!(!key.verify(b"massage", &mac));
    }

    #[test]
    fn lists_of_parts_never_share_an_encoding() {
        assert_ne!(pae([b"ab", b"c"]), pae([b"a", b"bc"]));
        let long = [b'x'; SHORT_BYTES];
        assert_eq!(pae([&long])[16..], long);
        assert_eq!(pae([&long[..SHORT_BYTES - 16]])[16..], long[16..]);
        assert_ne!(pae([]), pae([b""]));
        // PASETO's own examples.
        assert_eq!(pae([b"test"]), *b"\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0test");
    }
}
