//! Unwraps data keys as the stored format's page says, with nothing of the library's, to know what to look for.

use aes_gcm::aes::Aes256;
use aes_gcm::aes::cipher::{Array, BlockCipherEncrypt};
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::common::vault::MasterKeyParts;

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

/// The 32 bytes of a wrapped data key; `organization` is empty for a shared one.
pub(crate) fn unwrap(
    master: &MasterKeyParts,
    vault: &[u8; 16],
    data_key: &[u8; 16],
    organization: &[u8],
    wrapped: &str,
) -> [u8; 32] {
    let bytes = URL_SAFE_NO_PAD.decode(wrapped.strip_prefix("cv1.").unwrap()).unwrap();
    let (header, rest) = bytes.split_at(44);
    let (sealed, tag) = rest[32..].split_at(32);
    let (derives_key, gcm_nonce) = header[20..].split_at(12);

    // K_aead: the first block of HKDF.
    let info = pae(&[b"credvault/v1/subkeys", &[2, 2], &master.id]);
    let k_aead = hmac(&hmac(&[0; 32], &master.key), &[&info[..], &[1]].concat());
    // XAES: the message's key is two blocks of AES-CMAC.
    let cipher = Aes256::new(&k_aead.into());
    let mut block = Array::from([0; 16]);
    cipher.encrypt_block(&mut block);
    let l = u128::from_be_bytes(block.0);
    let k1 = ((l << 1) ^ ((l >> 127) * 0x87)).to_be_bytes();
    let mut message_key = Vec::new();
    for counter in [1, 2] {
        let mut block = [0; 16];
        block[..4].copy_from_slice(&[0, counter, b'X', 0]);
        block[4..].copy_from_slice(derives_key);
        let mut block = Array::from(std::array::from_fn(|at| block[at] ^ k1[at]));
        cipher.encrypt_block(&mut block);
        message_key.extend_from_slice(&block);
    }
    let message_key: [u8; 32] = message_key.try_into().unwrap();
    let gcm_nonce: [u8; 12] = gcm_nonce.try_into().unwrap();
    let tag: [u8; 16] = tag.try_into().unwrap();
    let data = pae(&[b"credvault/v1/data-key", header, vault, data_key, organization]);
    let mut key: [u8; 32] = sealed.try_into().unwrap();
    Aes256Gcm::new(&message_key.into())
        .decrypt_inout_detached(&gcm_nonce.into(), &data, key.as_mut_slice().into(), &tag.into())
        .expect("not the data key");
    key
}
