//! Unwraps data keys and derives what is made of keys, as the stored format's page says and with nothing of the
//! library's, to know what to look for.

use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{Array, BlockCipherEncrypt};
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use sha2::block_api::compress256;

use crate::common::vault::MasterKeyParts;

/// What a key is for: the header's bytes `suite` and `object`, which are the same number.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// A data key seals rows.
    Row = 1,
    /// A master key wraps data keys.
    DataKey = 2,
}

/// All that is derived from a key, on the way to what is kept of it.
pub(crate) struct Derived {
    /// HKDF's own key.
    pub(crate) prk: [u8; 32],
    pub(crate) aead: [u8; 32],
    pub(crate) commit: [u8; 32],
    pub(crate) check: [u8; 32],
}

/// A stored value of either kind, in its parts.
pub(crate) struct StoredValue {
    header: [u8; 44],
    rest: Vec<u8>,
}

fn pae(parts: &[&[u8]]) -> Vec<u8> {
    let mut encoded = (parts.len() as u64).to_le_bytes().to_vec();
    for part in parts {
        encoded.extend((part.len() as u64).to_le_bytes());
        encoded.extend_from_slice(part);
    }
    encoded
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The two states that HMAC-SHA-256 under `key` begins with, as words lie in memory.
pub(crate) fn hmac_states(key: &[u8; 32]) -> [[u8; 32]; 2] {
    [0x36, 0x5c].map(|pad| {
        let block = std::array::from_fn(|at| key.get(at).unwrap_or(&0) ^ pad);
        // FIPS 180-4, 5.3.3.
        let mut state = [
            0x6a09_e667,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ];
        compress256(&mut state, &[block]);
        state.map(u32::to_ne_bytes).as_flattened().try_into().unwrap()
    })
}

/// What is derived from `key`, whose id is `id`: three blocks of HKDF-SHA-256 without salt.
pub(crate) fn derived(key: &[u8; 32], purpose: Purpose, id: &[u8; 16]) -> Derived {
    let info = pae(&[b"credvault/v1/subkeys", &[purpose as u8; 2], id]);
    let prk = hmac(&[0; 32], key);
    let aead = hmac(&prk, &[&info[..], &[1]].concat());
    let commit = hmac(&prk, &[&aead, &info[..], &[2]].concat());
    let check = hmac(&prk, &[&commit, &info[..], &[3]].concat());
    Derived { prk, aead, commit, check }
}

impl StoredValue {
    pub(crate) fn read(text: &str) -> Self {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix("cv1.").unwrap()).unwrap();
        let (header, rest) = bytes.split_first_chunk().unwrap();
        Self { header: *header, rest: rest.to_vec() }
    }

    /// The id of the key that sealed it.
    pub(crate) fn key_id(&self) -> [u8; 16] {
        self.header[4..20].try_into().unwrap()
    }

    /// The key of this one message, by XAES: two blocks of AES-CMAC.
    pub(crate) fn message_key(&self, aead: &[u8; 32]) -> [u8; 32] {
        let cipher = Aes256::new(aead.into());
        let mut block = Array::from([0; 16]);
        cipher.encrypt_block(&mut block);
        let l = u128::from_be_bytes(block.0);
        let k1 = ((l << 1) ^ ((l >> 127) * 0x87)).to_be_bytes();
        let mut key = Vec::new();
        for counter in [1, 2] {
            let mut block = [0; 16];
            block[..4].copy_from_slice(&[0, counter, b'X', 0]);
            block[4..].copy_from_slice(&self.header[20..32]);
            let mut block = Array::from(std::array::from_fn(|at| block[at] ^ k1[at]));
            cipher.encrypt_block(&mut block);
            key.extend_from_slice(&block);
        }
        key.try_into().unwrap()
    }
}

/// The 32 bytes of a wrapped data key; `organization` is empty for a shared one.
pub(crate) fn unwrap(
    master: &MasterKeyParts,
    vault: &[u8; 16],
    data_key: &[u8; 16],
    organization: &[u8],
    wrapped: &str,
) -> [u8; 32] {
    let wrapped = StoredValue::read(wrapped);
    let (sealed, tag) = wrapped.rest[32..].split_at(32);
    let message_key = wrapped.message_key(&derived(&master.key, Purpose::DataKey, &master.id).aead);
    let gcm_nonce: [u8; 12] = wrapped.header[32..].try_into().unwrap();
    let tag: [u8; 16] = tag.try_into().unwrap();
    let data = pae(&[b"credvault/v1/data-key", &wrapped.header, vault, data_key, organization]);
    let mut key: [u8; 32] = sealed.try_into().unwrap();
    Aes256Gcm::new(&message_key.into())
        .decrypt_inout_detached(&gcm_nonce.into(), &data, key.as_mut_slice().into(), &tag.into())
        .expect("not the data key");
    key
}
