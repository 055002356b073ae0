//! AES-256-GCM under a nonce of 24 bytes: [XAES-256-GCM](https://c2sp.org/XAES-256-GCM); and AES-256-GCM by
//! itself, which only opens.
//!
//! The one file that names `aes_gcm`.

use aes_gcm::aead::consts::{U1, U12, U16};
use aes_gcm::aead::inout::InOut;
use aes_gcm::aes::Aes256Enc;
use aes_gcm::aes::cipher::{
    Array, Block, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser,
    ParBlocksSizeUser, typenum::Unsigned,
};
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
type Aes256Gcm<'k> = AesGcm<Narrow<'k>, U12>;

/// The most blocks that a backend may take at once: wider ones have kilobytes of them on the stack, all of which is
/// wiped after each message, and messages here have a dozen blocks.
const WIDEST: usize = 8;

/// AES-256 by backends that take few blocks at once, under a schedule that stays where it is.
struct Narrow<'k>(&'k Aes256Enc);

impl BlockSizeUser for Narrow<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncrypt for Narrow<'_> {
    #[inline]
    fn encrypt_with_backend(&self, f: impl BlockCipherEncClosure<BlockSize = U16>) {
        self.0.encrypt_with_backend(Single(f));
    }
}

/// What a mode of operation does, given a backend for one block; the backend, as such a one.
struct Single<T>(T);

impl<T> BlockSizeUser for Single<T> {
    type BlockSize = U16;
}

impl<F: BlockCipherEncClosure<BlockSize = U16>> BlockCipherEncClosure for Single<F> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        if B::ParBlocksSize::USIZE > WIDEST {
            self.0.call(&Single(backend));
        } else {
            self.0.call(backend);
        }
    }
}

impl<T> ParBlocksSizeUser for Single<T> {
    type ParBlocksSize = U1;
}

impl<B: BlockCipherEncBackend<BlockSize = U16>> BlockCipherEncBackend for Single<&B> {
    #[inline(always)]
    fn encrypt_block(&self, block: InOut<'_, '_, Block<Self>>) {
        self.0.encrypt_block(block);
    }
}

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
        let schedule = self.message_schedule(nonce);
        Aes256Gcm::from(Narrow(&schedule))
            .encrypt_inout_detached(&gcm_nonce(nonce).into(), associated_data, buffer.into())
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
        let schedule = self.message_schedule(nonce);
        Aes256Gcm::from(Narrow(&schedule))
            .decrypt_inout_detached(&gcm_nonce(nonce).into(), associated_data, buffer.into(), tag.into())
            .map_err(|_| Refused)
    }

    /// The schedule of the key of a message; the cipher borrows it, since one that moves leaves a copy behind.
    fn message_schedule(&self, nonce: &[u8; NONCE_BYTES]) -> Aes256Enc {
        let mut key = self.message_key(nonce);
        let schedule = Aes256Enc::new((&key).into());
        // As a slice it is wiped at once, as an array byte by byte.
        key.as_mut_slice().zeroize();
        schedule
    }

    /// The key of a message, which the caller wipes: CMAC of two blocks, each one block of AES since K1 completes it.
    ///
    /// ```text
    /// 00 | counter 01, 02 | 'X' | 00 | first 12 bytes of the nonce
    /// ```
    fn message_key(&self, nonce: &[u8; NONCE_BYTES]) -> [u8; KEY_BYTES] {
        // As numbers: bytes that are put together one by one wait for each other in the processor.
        let mut nonce_block = [0; 16];
        nonce_block[4..].copy_from_slice(&nonce[..12]);
        let first = u128::from_le_bytes(nonce_block) ^ u128::from_le_bytes(*self.k1) ^ 0x0058_0100;
        let second = first ^ (0x01 ^ 0x02) << 8;
        let mut key = [0; KEY_BYTES];
        key[..16].copy_from_slice(&first.to_le_bytes());
        key[16..].copy_from_slice(&second.to_le_bytes());
        // In place: blocks of their own would have to be wiped, too.
        Narrow(&self.cipher).encrypt_blocks(Array::cast_slice_from_core_mut(key.as_chunks_mut::<16>().0));
        key
    }
}

/// The nonce that is left for AES-256-GCM.
fn gcm_nonce(nonce: &[u8; NONCE_BYTES]) -> [u8; GCM_NONCE_BYTES] {
    let mut left = [0; GCM_NONCE_BYTES];
    left.copy_from_slice(&nonce[GCM_NONCE_BYTES..]);
    left
}

/// A key of plain AES-256-GCM, for what others have sealed; nothing is sealed with it.
pub(crate) struct GcmKey(Aes256Enc);

impl GcmKey {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(Aes256Enc::new(key.into()))
    }

    /// Decrypts `buffer` in place, after its tag was found right; else leaves it.
    pub(crate) fn open(
        &self,
        nonce: &[u8; GCM_NONCE_BYTES],
        associated_data: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), Refused> {
        Aes256Gcm::from(Narrow(&self.0))
            .decrypt_inout_detached(nonce.into(), associated_data, buffer.into(), tag.into())
            .map_err(|_| Refused)
    }
}

/// The schedules are wiped when dropped, by the feature `zeroize` of `aes_gcm`; without it this doesn't compile.
const _: () = {
    const fn wiped_when_dropped<T: ZeroizeOnDrop>() {}
    wiped_when_dropped::<Aes256Enc>();
    wiped_when_dropped::<AesGcm<Aes256Enc, U12>>();
};

#[cfg(test)]
#[path = "xaes_vectors.rs"]
pub(crate) mod vectors;
