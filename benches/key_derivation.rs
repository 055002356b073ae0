//! A passphrase's master key through the provider, against argon2id by itself with the same parameters.

mod harness;

use std::hint::black_box;

use argon2::{Algorithm, Argon2, Params, Version};
use credvault::provider::{MasterKeyProvider, Passphrase, ProviderContext};
use credvault::{MasterKeyId, VaultId};
use uuid::Uuid;

const ROUNDS: usize = 11;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("no runtime");
    let passphrase = Passphrase::from_secret("correct horse battery staple".into());
    let context =
        ProviderContext::new(VaultId::from(Uuid::from_u128(1)), MasterKeyId::from(Uuid::from_u128(2)));
    let (_, record) = runtime.block_on(passphrase.create(&context)).expect("it derives");
    // The default: 64 MiB, 3 passes, 4 lanes.
    let params = Params::new(65_536, 3, 4, Some(32)).expect("they are valid");
    let raw = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);

    harness::heading("a master key from a passphrase");
    let times = harness::interleaved(
        ROUNDS,
        1,
        [
            &mut || {
                let mut key = [0; 32];
                raw.hash_password_into(b"correct horse battery staple", &[5; 16], &mut key)
                    .expect("it derives");
                black_box(key);
            },
            &mut || {
                black_box(runtime.block_on(passphrase.unlock(&record, &context)).expect("it derives"));
            },
        ],
    );
    harness::report("argon2id, 64 MiB, t=3, p=4", times, None);
}
