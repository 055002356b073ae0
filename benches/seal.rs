//! Sealing and opening to text, against raw AES-256-GCM in place: a key that stands, the same associated data, the same
//! padded length. What lies between is the nonce, the key derived for each value, base64 and wiping.

mod harness;

use std::hint::black_box;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};
use credvault::bench::Sealer;

/// Rounds so short that few meet the turn of another process, and so many that their median is none of those few.
const ROUNDS: usize = 401;
const CALLS: u32 = 400;

/// Payloads before padding: a GitHub token, one of the new length, a service account's key.
const PAYLOADS: [(&str, usize); 3] = [("192 bytes", 190), ("576 bytes", 560), ("2,432 bytes", 2_400)];

fn main() {
    let sealer = Sealer::new().expect("no key");
    let raw = Aes256Gcm::new(&[7; 32].into());
    let raw_nonce = [9; 12].into();
    let associated_data = vec![1; Sealer::ASSOCIATED_DATA_BYTES];
    let mut within = true;

    harness::heading("to text, a value");
    for (name, bytes) in PAYLOADS {
        let credential = Sealer::credential(bytes);
        let stored = sealer.seal(&credential).expect("it seals");
        // `cv1.` and base64 of header, padded payload and tag.
        let padded = (stored.len() - 4) * 3 / 4 - 44 - 16;
        let mut buffer = vec![0; padded];
        let tag = raw
            .encrypt_inout_detached(&raw_nonce, &associated_data, buffer.as_mut_slice().into())
            .expect("it seals");
        let sealed = buffer.clone();

        let [floor, ours, nonce] = harness::interleaved(
            ROUNDS,
            CALLS,
            [
                &mut || {
                    let buffer = black_box(buffer.as_mut_slice());
                    black_box(
                        raw.encrypt_inout_detached(&raw_nonce, &associated_data, buffer.into())
                            .expect("it seals"),
                    );
                },
                &mut || {
                    black_box(sealer.seal(black_box(&credential)).expect("it seals"));
                },
                &mut || {
                    black_box(Sealer::draw_nonce().expect("it draws"));
                },
            ],
        );
        let limit = (bytes < 200).then_some(4.0);
        within &= harness::report(&format!("seal {name}"), [floor, ours], limit);
        harness::report("  of it the nonce from the system", [floor, nonce], None);

        let mut buffer = sealed.clone();
        let times = harness::interleaved(
            ROUNDS,
            CALLS,
            [
                &mut || {
                    buffer.copy_from_slice(&sealed);
                    let buffer = black_box(buffer.as_mut_slice());
                    raw.decrypt_inout_detached(&raw_nonce, &associated_data, buffer.into(), &tag)
                        .expect("it opens");
                },
                &mut || {
                    black_box(sealer.open(black_box(&stored)).expect("it opens"));
                },
            ],
        );
        within &= harness::report(&format!("open {name}"), times, limit);
    }
    harness::end(within);
}
