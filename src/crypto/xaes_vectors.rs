//! C2SP's vectors of XAES-256-GCM, and Wycheproof's of AES-256-GCM.

use serde_json::Value;
use shake::{ExtendableOutput, Shake128, Update, XofReader};

use super::*;

const VECTORS: &str = include_str!("../../tests/vectors/xaes_vectors.json");

/// The key of one message, which nothing but a test may ask for.
pub(crate) fn message_key(key: &XaesKey, nonce: &[u8; NONCE_BYTES]) -> Zeroizing<[u8; KEY_BYTES]> {
    Zeroizing::new(key.message_key(nonce))
}

fn vectors() -> Value {
    serde_json::from_str(VECTORS).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_vector_of_c2sp_holds() {
    let vectors = vectors();
    let vectors = vectors["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let bytes = text("key").as_bytes()[1] - b'0';
        let key = XaesKey::new(&[bytes; KEY_BYTES]);
        let nonce: [u8; NONCE_BYTES] = text("nonce_ascii").as_bytes().try_into().unwrap();
        assert_eq!(hex(&*key.k1), text("k1"));
        assert_eq!(hex(&key.message_key(&nonce)), text("derived_key"));
        assert_eq!(hex(&gcm_nonce(&nonce)), text("gcm_nonce"));

        let aad = text("aad_ascii").as_bytes();
        let mut buffer = text("plaintext_ascii").as_bytes().to_vec();
        let tag = key.seal(&nonce, aad, &mut buffer).unwrap();
        assert_eq!(hex(&buffer) + &hex(&tag), text("ciphertext"));
        key.open(&nonce, aad, &mut buffer, &tag).unwrap();
        assert_eq!(buffer, text("plaintext_ascii").as_bytes());
    }
}

/// What C2SP's accumulated vectors come to after so many rounds; each is opened again, too.
fn accumulated(rounds: usize) -> String {
    let mut source = Shake128::default().finalize_xof();
    let mut sink = Shake128::default();
    let text = |source: &mut dyn XofReader| {
        let mut length = [0];
        source.read(&mut length);
        let mut text = vec![0; usize::from(length[0])];
        source.read(&mut text);
        text
    };
    for _ in 0..rounds {
        let (mut key, mut nonce) = ([0; KEY_BYTES], [0; NONCE_BYTES]);
        source.read(&mut key);
        source.read(&mut nonce);
        let plaintext = text(&mut source);
        let aad = text(&mut source);
        let key = XaesKey::new(&key);
        let mut buffer = plaintext.clone();
        let tag = key.seal(&nonce, &aad, &mut buffer).unwrap();
        sink.update(&buffer);
        sink.update(&tag);
        key.open(&nonce, &aad, &mut buffer, &tag).unwrap();
        assert_eq!(buffer, plaintext);
    }
    let mut digest = [0; 32];
    sink.finalize_xof().read(&mut digest);
    hex(&digest)
}

#[test]
fn ten_thousand_accumulated_rounds_hold() {
    assert_eq!(accumulated(10_000), vectors()["accumulated"]["rounds_10000"]);
}

#[test]
#[ignore = "slow in debug builds: cargo test --release --lib a_million_accumulated -- --ignored"]
fn a_million_accumulated_rounds_hold() {
    assert_eq!(accumulated(1_000_000), vectors()["accumulated"]["rounds_1000000"]);
}

#[test]
fn every_wycheproof_vector_of_aes_256_gcm_holds() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for group in set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in group.tests {
            let key = GcmKey::new(test.key[..].try_into().unwrap());
            let (nonce, tag) = (test.nonce[..].try_into().unwrap(), test.tag[..].try_into().unwrap());
            let mut buffer = test.ct.to_vec();
            let result = key.open(nonce, &test.aad, &mut buffer, tag);
            if test.result.must_fail() {
                assert!(result.is_err(), "{}", test.tc_id);
                assert_eq!(buffer, test.ct[..], "{} was decrypted", test.tc_id);
                refused += 1;
            } else {
                assert!(result.is_ok(), "{}", test.tc_id);
                assert_eq!(buffer, test.pt[..], "{}", test.tc_id);
                opened += 1;
            }
        }
    }
    assert_eq!((opened, refused), (39, 27));
}
