//! What argon2id has in memory on the way from a passphrase to a key (RFC 9106, section 3.2).

use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blake2::{Blake2b512, Digest};
use credvault::provider::Argon2Parameters;

use super::search::{PART_BYTES, Secret};

/// The least that is accepted: a test has no time for more.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const KEY_BYTES: u32 = 32;

/// One of so many blocks is looked for.
const SAMPLE: usize = 500;

pub(crate) fn parameters() -> Argon2Parameters {
    Argon2Parameters::new(MEMORY_KIB, PASSES, LANES).unwrap()
}

/// The key that a vault's record makes of a passphrase, and what it was made from.
pub(crate) fn derive(passphrase: &[u8], record: &str) -> ([u8; 32], Vec<Secret>) {
    let (parameters, salt) = record.rsplit_once('$').unwrap();
    assert_eq!(parameters, format!("argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}"));
    let salt = URL_SAFE_NO_PAD.decode(salt).unwrap();

    let mut secrets = Vec::new();
    // H0: from it the key can be derived without the passphrase.
    let numbers = [LANES, KEY_BYTES, MEMORY_KIB, PASSES, 0x13, 2];
    let mut hash = Blake2b512::new();
    numbers.iter().for_each(|number| hash.update(number.to_le_bytes()));
    for part in [passphrase, &salt, &[], &[]] {
        hash.update(u32::try_from(part.len()).unwrap().to_le_bytes());
        hash.update(part);
    }
    let h0 = hash.finalize();
    secrets.extend(parts("H0", &h0));
    // The first two blocks of the lane, as H' begins them: 32 bytes of a hash of their length, H0 and their place.
    for place in [0_u32, 1] {
        let first = Blake2b512::new()
            .chain_update(1024_u32.to_le_bytes())
            .chain_update(h0)
            .chain_update(place.to_le_bytes())
            .chain_update(0_u32.to_le_bytes())
            .finalize();
        secrets.extend(parts(&format!("block {place} as it began"), &first));
    }

    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(KEY_BYTES as usize)).unwrap();
    let mut memory = vec![Block::new(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut key = [0; 32];
    argon2.hash_password_into_with_memory(passphrase, &salt, &mut key, &mut memory).unwrap();
    let last = memory.len() - 1;
    for (at, block) in memory.iter().enumerate().filter(|(at, _)| at % SAMPLE == 0 || *at == last) {
        let words: Vec<u8> = block.as_ref().iter().flat_map(|word| word.to_ne_bytes()).collect();
        let middle = words.len() / 2;
        secrets.extend(parts(&format!("block {at}"), &words[middle..middle + 2 * PART_BYTES]));
    }
    (key, secrets)
}

fn parts(name: &str, bytes: &[u8]) -> Vec<Secret> {
    let parts = bytes.chunks_exact(PART_BYTES).enumerate();
    parts.map(|(part, bytes)| Secret::new(format!("{name}, part {part}"), bytes)).collect()
}
