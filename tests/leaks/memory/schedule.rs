//! The round keys of AES-256, computed from FIPS 197 alone.

/// The round keys of `key`, in their order; the first two are the key itself.
pub(crate) fn round_keys(key: &[u8; 32]) -> [[u8; 16]; 15] {
    let substitution = substitution();
    let substituted = |word: [u8; 4]| word.map(|byte| substitution[usize::from(byte)]);
    let mut words: Vec<[u8; 4]> = key.as_chunks().0.to_vec();
    let mut constant = 1;
    for at in 8..60 {
        let before = words[at - 1];
        let mixed = match at % 8 {
            0 => {
                let [first, others @ ..] = substituted([before[1], before[2], before[3], before[0]]);
                let mixed = [first ^ constant, others[0], others[1], others[2]];
                constant = times(constant, 2);
                mixed
            }
            4 => substituted(before),
            _ => before,
        };
        words.push(std::array::from_fn(|byte| words[at - 8][byte] ^ mixed[byte]));
    }
    std::array::from_fn(|round| words[4 * round..4 * round + 4].as_flattened().try_into().unwrap())
}

/// The product in GF(2^8), section 4.2.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = (a << 1) ^ ((a >> 7) * 0x1b);
        b >>= 1;
    }
    product
}

/// The S-box, section 5.1.1: the inverse, then an affine transformation.
fn substitution() -> [u8; 256] {
    std::array::from_fn(|at| {
        let byte = u8::try_from(at).unwrap();
        let inverse = (0..=255).find(|&other| times(byte, other) == 1).unwrap_or(0);
        (0..5).fold(0x63, |sum, by| sum ^ inverse.rotate_left(by))
    })
}

#[test]
fn the_expansion_of_fips_197_holds() {
    // Appendix A.3.
    let key = [
        0x60, 0x3d, 0xeb, 0x10, 0x15, 0xca, 0x71, 0xbe, 0x2b, 0x73, 0xae, 0xf0, 0x85, 0x7d, 0x77, 0x81, 0x1f,
        0x35, 0x2c, 0x07, 0x3b, 0x61, 0x08, 0xd7, 0x2d, 0x98, 0x10, 0xa3, 0x09, 0x14, 0xdf, 0xf4,
    ];
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let round_keys = round_keys(&key);
    assert_eq!(round_keys[..2].as_flattened(), key);
    assert_eq!(hex(&round_keys[2]), "9ba354118e6925afa51a8b5f2067fcde");
    assert_eq!(hex(&round_keys[14]), "fe4890d1e6188d0b046df344706c631e");
}
