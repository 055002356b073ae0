//! AES-256-GCM under a nonce of 24 bytes: [XAES-256-GCM](https://c2sp.org/XAES-256-GCM); and AES-256-GCM by
//! itself, which only opens.
//!
//! The one file that names `aes_gcm`.

use aes_gcm::aead::consts::U12;
use aes_gcm::aes::Aes256Enc;
use aes_gcm::aes::cipher::{Array, BlockCipherEncrypt};
use aes_gcm::{AeadInOut, AesGcm, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::key_bytes::KEY_BYTES;

/// The size of a nonce of XAES-256-GCM, in bytes.
pub(crate) const NONCE_BYTES: usize = 24;

/// The size of a nonce of AES-256-GCM, in bytes.
pub(crate) const GCM_NONCE_BYTES: usize = 12;

/// The size of an authentication tag, in bytes.
pub(crate) const TAG_BYTES: usize = 16;

/// GCM only ever encrypts blocks, so the schedule for decrypting them is never made.
type Aes256Gcm = AesGcm<Aes256Enc, U12>;

/// A message that does not authenticate, or, when sealing, one beyond AES-GCM's 64 GiB.
#[derive(Debug)]
pub(crate) struct Refused;

/// A key of XAES-256-GCM: the key schedule and the subkey K1 of its CMAC, computed once.
pub(crate) struct XaesKey {
    cipher: Aes256Enc,
    k1: Zeroizing<[u8; 16]>,
}

impl XaesKey {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut block = Array::from([0; 16]);
        cipher.encrypt_block(&mut block);
        // K1 is the encrypted zero block times x in GF(2^128), NIST SP 800-38B, 6.1.
        let l = u128::from_be_bytes(block.0);
        let k1 = (l << 1) ^ ((l >> 127) * 0x87);
        block.0.zeroize();
        Self { cipher, k1: Zeroizing::new(k1.to_be_bytes()) }
    }

    /// Encrypts `buffer` in place and gives its tag.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated_data: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Refused> {
        let (cipher, nonce) = self.message_cipher(nonce);
        cipher
            .encrypt_inout_detached(&nonce.into(), associated_data, buffer.into())
            .map(|tag| tag.0)
            .map_err(|_| Refused)
    }

    /// Decrypts `buffer` in place, after its tag was found right; else leaves it.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        associated_data: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Refused> {
        let (cipher, nonce) = self.message_cipher(nonce);
        cipher
            .decrypt_inout_detached(&nonce.into(), associated_data, buffer.into(), tag.into())
            .map_err(|_| Refused)
    }

    /// AES-256-GCM under the key of this message, and the nonce that is left for it.
    fn message_cipher(&self, nonce: &[u8; NONCE_BYTES]) -> (Aes256Gcm, [u8; GCM_NONCE_BYTES]) {
        let mut key = self.message_key(nonce);
        let cipher = Aes256Gcm::new((&*key).into());
        key.zeroize();
        let mut gcm_nonce = [0; GCM_NONCE_BYTES];
        gcm_nonce.copy_from_slice(&nonce[GCM_NONCE_BYTES..]);
        (cipher, gcm_nonce)
    }

    /// The key of a message: CMAC of two blocks, each one block of AES since K1 completes it.
    ///
    /// ```text
    /// 00 | counter 01, 02 | 'X' | 00 | first 12 bytes of the nonce
    /// ```
    fn message_key(&self, nonce: &[u8; NONCE_BYTES]) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut blocks = [1, 2].map(|counter| {
            let mut block = [0, counter, b'X', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            block[4..].copy_from_slice(&nonce[..12]);
            for (byte, k1) in block.iter_mut().zip(self.k1.iter()) {
                *byte ^= k1;
            }
            Array::from(block)
        });
        self.cipher.encrypt_blocks(&mut blocks);
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        for (half, block) in key.chunks_exact_mut(16).zip(&mut blocks) {
            half.copy_from_slice(&block.0);
            block.0.zeroize();
        }
        key
    }
}

/// A key of plain AES-256-GCM, for what others have sealed; nothing is sealed with it.
pub(crate) struct GcmKey(Aes256Gcm);

impl GcmKey {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Aes256Gcm::new(key.into()))
    }

    /// Decrypts `buffer` in place, after its tag was found right; else leaves it.
    pub(crate) fn open(
        &self,
        nonce: &[u8; GCM_NONCE_BYTES],
        associated_data: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Refused> {
        self.0
            .decrypt_inout_detached(nonce.into(), associated_data, buffer.into(), tag.into())
            .map_err(|_| Refused)
    }
}

/// The schedules are wiped when dropped, by the feature `zeroize` of `aes_gcm`; without it this doesn't compile.
const _: () = {
    const fn wiped_when_dropped<T: ZeroizeOnDrop>() {}
    wiped_when_dropped::<Aes256Enc>();
    wiped_when_dropped::<Aes256Gcm>();
};

#[cfg(test)]
#[path = "xaes_vectors.rs"]
pub(crate) mod vectors;
