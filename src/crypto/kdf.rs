//! A key from a passphrase: argon2id (RFC 9106), version 0x13. The one file that names the crate `argon2`.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize, zeroize_stack};

use super::key_bytes::{KEY_BYTES, KeyBytes};
use crate::error::{Error, ErrorKind, Result};

/// What deriving a key costs: memory in KiB, passes over it, and lanes.
///
/// The default is the second recommended option of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes. The lanes
/// are computed one after the other, in one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Argon2Parameters {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// The weakest parameters that are accepted, as (memory in KiB, passes), each with one lane or more: the two
/// costliest rows of the equal ones in OWASP's Password Storage Cheat Sheet. Its minimum is the first; its
/// rows with less memory are cheaper to attack with many small cores.
const FLOORS: [(u32, u32); 2] = [(19_456, 2), (47_104, 1)];

impl Argon2Parameters {
    /// The most memory, in KiB: 1 GiB. A record in the database must not make a process run out of it.
    pub const MAX_MEMORY_KIB: u32 = 1_048_576;

    /// The most passes: with all the memory, minutes on one core, not days.
    pub const MAX_PASSES: u32 = 64;

    /// The most lanes: more than any machine that this is tuned for has cores to spend.
    pub const MAX_LANES: u32 = 64;

    /// Parameters of `memory_kib` KiB, `passes` over it (t) and `lanes` (p).
    ///
    /// # Errors
    ///
    /// `InvalidInput` below the minimum of OWASP's Password Storage Cheat Sheet (19,456 KiB with 2 passes; 1
    /// is enough from 47,104 KiB), without a lane, or above [`MAX_MEMORY_KIB`](Self::MAX_MEMORY_KIB),
    /// [`MAX_PASSES`](Self::MAX_PASSES) or [`MAX_LANES`](Self::MAX_LANES).
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self> {
        let refuse = |why: String| {
            Err(Error::new(
                ErrorKind::InvalidInput,
                format!("argon2id with m={memory_kib} KiB, t={passes}, p={lanes} is refused: {why}"),
            ))
        };
        if lanes == 0 || !FLOORS.iter().any(|&(memory, times)| memory_kib >= memory && passes >= times) {
            return refuse("the least is m=19456, t=2, p=1, or m=47104, t=1, p=1".to_owned());
        }
        if memory_kib > Self::MAX_MEMORY_KIB || passes > Self::MAX_PASSES || lanes > Self::MAX_LANES {
            return refuse(format!(
                "the most is m={}, t={}, p={}",
                Self::MAX_MEMORY_KIB,
                Self::MAX_PASSES,
                Self::MAX_LANES
            ));
        }
        Ok(Self { memory_kib, passes, lanes })
    }

    /// The memory, in KiB (m).
    #[must_use]
    pub const fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// The passes over the memory (t).
    #[must_use]
    pub const fn passes(&self) -> u32 {
        self.passes
    }

    /// The lanes of the memory (p).
    #[must_use]
    pub const fn lanes(&self) -> u32 {
        self.lanes
    }
}

impl Default for Argon2Parameters {
    fn default() -> Self {
        Self { memory_kib: 65_536, passes: 3, lanes: 4 }
    }
}

/// The stack that is wiped after a derivation, in bytes: argon2 keeps a dozen blocks of 1 KiB there, some of
/// them twice in a build without optimization, the state of a hash that has read the passphrase, and a copy of
/// the key.
const STACK_BYTES: usize = 64 * 1024;

/// Derives a key of [`KEY_BYTES`] bytes; takes the memory that `parameters` say, and wipes it.
///
/// # Errors
///
/// `Provider` if the memory is not to be had, or argon2 refuses the salt's length (8 bytes at least).
pub(crate) fn argon2id(passphrase: &[u8], salt: &[u8], parameters: &Argon2Parameters) -> Result<KeyBytes> {
    let key = derive(passphrase, salt, parameters);
    zeroize_stack::<STACK_BYTES>();
    key
}

#[inline(never)]
fn derive(passphrase: &[u8], salt: &[u8], parameters: &Argon2Parameters) -> Result<KeyBytes> {
    let failed = |error: argon2::Error| Error::new(ErrorKind::Provider, format!("argon2id failed: {error}"));
    let params = Params::new(parameters.memory_kib, parameters.passes, parameters.lanes, Some(KEY_BYTES))
        .map_err(failed)?;
    let mut memory = Memory::of(params.block_count())?;
    let mut key = KeyBytes::zeros();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, key.expose_mut(), &mut *memory.0)
        .map_err(failed)?;
    Ok(key)
}

/// The blocks that argon2 works in: the crate wipes neither those that it takes by itself nor these.
struct Memory(Box<[Block]>);

impl Memory {
    fn of(blocks: usize) -> Result<Self> {
        let mut memory = Vec::new();
        // To run out of memory is an error here; `vec!` would end the process.
        memory.try_reserve_exact(blocks).map_err(|error| {
            Error::new(
                ErrorKind::Provider,
                format!("argon2id needs {blocks} KiB of memory, which are not to be had"),
            )
            .with_source(error)
        })?;
        memory.resize(blocks, Block::new());
        Ok(Self(memory.into_boxed_slice()))
    }
}

impl Zeroize for Memory {
    fn zeroize(&mut self) {
        for block in &mut self.0 {
            block.zeroize();
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.zeroize();
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    use super::super::memory_search::Needle;
    use super::*;

    #[test]
    fn the_key_is_the_one_that_other_implementations_derive() {
        // Computed with argon2-cffi 25.1 (the reference code in C) and with OpenSSL's Argon2id; both agree.
        let passphrase = "correct horse battery staple ✓".as_bytes();
        let salt: Vec<u8> = (0..16).collect();
        for (parameters, expected) in [
            (Argon2Parameters::default(), "46fbbb6f9c3ed5d1aed520872a282a54bf3b66a6c6696fd53080bbcd6080f1bd"),
            (
                Argon2Parameters::new(19_456, 2, 1).unwrap(),
                "3e7caf996a18c8dfc1f1a48f6fff143559b42ed6d09c910eed5de401cd5c9df4",
            ),
        ] {
            let key = argon2id(passphrase, &salt, &parameters).unwrap();
            let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected, "{parameters:?}");
        }
    }

    #[test]
    fn the_vector_of_rfc_9106_holds() {
        // Section 5.3. It has a secret and associated data, which no key of the vault has: against the crate.
        let params = argon2::ParamsBuilder::new()
            .m_cost(32)
            .t_cost(3)
            .p_cost(4)
            .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
            .output_len(32)
            .build()
            .unwrap();
        let mut tag = [0; 32];
        Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params)
            .unwrap()
            .hash_password_into(&[1; 32], &[2; 16], &mut tag)
            .unwrap();
        let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
    }

    #[test]
    fn parameters_below_owasps_minimum_or_above_the_limits_are_refused() {
        for (memory_kib, passes, lanes) in
            [(19_456, 2, 1), (47_104, 1, 1), (65_536, 3, 4), (1_048_576, 64, 64)]
        {
            assert!(Argon2Parameters::new(memory_kib, passes, lanes).is_ok());
        }
        for (memory_kib, passes, lanes) in [
            (19_455, 2, 1),
            (19_456, 1, 1),
            (19_456, 0, 1),
            (47_103, 1, 1),
            (65_536, 3, 0),
            (65_536, 0, 4),
            (0, 3, 4),
            (1_048_577, 3, 4),
            (65_536, 65, 4),
            (65_536, 3, 65),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            let error = Argon2Parameters::new(memory_kib, passes, lanes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{memory_kib} {passes} {lanes}");
        }
    }

    #[test]
    fn memory_that_is_not_to_be_had_is_an_error() {
        let error = Memory::of(usize::MAX / Block::SIZE / 2).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Provider);
    }

    #[test]
    fn the_memory_of_a_derivation_is_wiped() {
        let params = Params::new(64, 1, 1, Some(KEY_BYTES)).unwrap();
        let mut memory = Memory::of(params.block_count()).unwrap();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .fill_memory(b"passphrase", &[0; 16], &mut *memory.0)
            .unwrap();
        let is_zero =
            |memory: &Memory| memory.0.iter().all(|block| block.as_ref().iter().all(|&word| word == 0));
        assert!(!is_zero(&memory));
        memory.zeroize();
        assert!(is_zero(&memory));
    }

    #[test]
    fn a_salt_that_is_too_short_is_refused() {
        let parameters = Argon2Parameters::new(19_456, 2, 1).unwrap();
        let error = argon2id(b"passphrase", &[0; 7], &parameters).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn neither_passphrase_nor_key_is_left_in_memory() {
        let parameters = Argon2Parameters::new(19_456, 2, 1).unwrap();
        let drawn = Needle::drawn(40);
        let passphrase = drawn.reveal();
        let key = argon2id(&passphrase, b"salt of 16 bytes", &parameters).unwrap();
        // The middle of each: what overwrites a freed allocation first is the allocator's own 16 bytes.
        let secrets = [Needle::of(&passphrase[16..32]), Needle::of(&key.expose()[8..24])];
        assert_eq!(secrets.each_ref().map(Needle::count), [1, 1], "the search finds what is there");
        drop((passphrase, key));
        assert_eq!(secrets.each_ref().map(Needle::count), [0, 0]);
    }
}
