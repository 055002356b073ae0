//! What another process finds in the memory of one that uses a vault: keys only while the vault is open, a token only
//! while its credential is held, and what is needed within a call never.
//!
//! The search is by bytes: a secret is found where 16 bytes of it stand one after another, as FIPS 197 has the round keys of
//! a schedule, and as processors with instructions for AES take them. A build with `--cfg aes_backend="soft"`, or one for a
//! processor without them, keeps schedules with the bits of four blocks among each other, which this doesn't find: there
//! the controls, by which a schedule in use must be found, fail, and that none is left is not shown.

mod argon2_memory;
mod process;
mod schedule;
mod search;
mod secrets;

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credvault::Vault;
use credvault::provider::Passphrase;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::common::vault::MasterKeyParts;
use crate::common::{self, KeyFiles, TestDatabase, on_both_stores, token};
use process::{Lockable, Process, Step};
use search::{PART_BYTES, Place, Secret};
use secrets::Secrets;

on_both_stores!(
    no_key_or_token_is_left_in_memory,
    no_passphrase_is_left_in_memory,
    a_vault_does_without_locked_memory,
);

async fn no_key_or_token_is_left_in_memory(database: TestDatabase) {
    nothing_is_left_by_a_key_file(&database, Lockable::Inherited).await;
}

async fn a_vault_does_without_locked_memory(database: TestDatabase) {
    nothing_is_left_by_a_key_file(&database, Lockable::Nothing).await;
}

async fn nothing_is_left_by_a_key_file(database: &TestDatabase, lockable: Lockable) {
    let keys = KeyFiles::new();
    let spec = keys.generate("master.key");
    let vault = database.create_vault(&spec).await;
    let master = keys.key("master.key");
    // The first characters of the key's text hold its id, which is no secret.
    let text = master.line();
    let text = ["the first half of the key's text", "the second half of the key's text"]
        .into_iter()
        .zip(text[30..].trim_end().as_bytes().chunks(23))
        .map(|(name, part)| Secret::new(name, part));
    let secrets = Secrets::of(master, text.collect());
    nothing_is_left(database, &vault, &spec, secrets, lockable).await;
}

async fn no_passphrase_is_left_in_memory(database: TestDatabase) {
    let passphrase = drawn();
    let keys = KeyFiles::new();
    let spec = format!("passphrase:{}", keys.write("passphrase", &passphrase));
    let provider =
        Passphrase::from_secret(passphrase.as_str().into()).with_parameters(argon2_memory::parameters());
    let vault = Vault::builder().url(database.url()).master_key_provider(Arc::new(provider));
    let vault = vault.create_if_missing().build().await.unwrap();
    let row = database.fetch_text("SELECT id, provider_record FROM vault_master_keys").await;
    let [id, record] = [0, 1].map(|column| row[0][column].clone().unwrap());
    let (key, mut passing) = argon2_memory::derive(passphrase.as_bytes(), &record);
    passing.extend(ends("passphrase", &passphrase));
    let master = MasterKeyParts { id: Uuid::parse_str(&id).unwrap().into_bytes(), key };
    nothing_is_left(&database, &vault, &spec, Secrets::of(master, passing), Lockable::Inherited).await;
}

/// A text that nobody has.
fn drawn() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(Uuid::new_v4()))
}

/// Beginning and end of a text: either alone is much.
fn ends(name: &str, text: &str) -> [Secret; 2] {
    let bytes = text.as_bytes();
    [
        Secret::new(format!("{name}'s beginning"), &bytes[..PART_BYTES]),
        Secret::new(format!("{name}'s end"), &bytes[bytes.len() - PART_BYTES..]),
    ]
}

/// Looks into a process through all its steps. `spec` is the place of its master key; `vault`, in another process, tells what
/// its data keys are.
async fn nothing_is_left(
    database: &TestDatabase,
    vault: &Vault,
    spec: &str,
    mut secrets: Secrets,
    lockable: Lockable,
) {
    let (organization, integration) = database.add_tenant().await;
    let drawn = drawn();
    vault.organization(organization).put(integration, &token(&drawn)).await.unwrap();
    let token = ends("token", &drawn);

    let mut process = Process::start(lockable, database.url(), spec, organization, integration);
    for step in Step::ALL {
        process.reaches(step);
        secrets.add_stored(database, vault, integration).await;
        nowhere(step, &process.places(&secrets.passing));

        let found = process.places(&token);
        if step == Step::Held {
            assert!(
                token.iter().all(|part| found.iter().any(|place| place.secret == part.name)),
                "{found:#?}"
            );
        } else {
            nowhere(step, &found);
        }

        let found = process.places(&secrets.of_master_key);
        if step == Step::Closed {
            nowhere(step, &found);
        } else {
            only_guarded(step, lockable, &secrets.of_master_key, &found);
        }

        let found = process.places(&secrets.of_row_key);
        let of_others = process.places(&secrets.of_other_keys);
        if [Step::Opened, Step::Closed].contains(&step) {
            nowhere(step, &found);
            nowhere(step, &of_others);
        } else {
            only_guarded(step, lockable, &secrets.of_row_key, &found);
        }
        // The key of before the rotation may still be held, or not.
        assert!(of_others.iter().all(|place| is_guarded(place, lockable)), "{step:?}: {of_others:#?}");
    }
    assert_eq!(process.locked_kib() > 0, lockable == Lockable::Inherited, "{lockable:?}");
    process.ends();
}

fn nowhere(step: Step, found: &[Place]) {
    assert!(found.is_empty(), "{step:?}: {found:#?}");
}

/// Each secret stands somewhere, and only where it is kept from core dumps, and from swap where that is allowed. How often is
/// the compiler's choice: a key that moves there takes along what its unused bytes held.
fn only_guarded(step: Step, lockable: Lockable, secrets: &[Secret], found: &[Place]) {
    for secret in secrets {
        let places: Vec<_> = found.iter().filter(|place| place.secret == secret.name).collect();
        assert!(
            !places.is_empty() && places.iter().all(|place| is_guarded(place, lockable)),
            "{step:?}: {}: {places:#?}",
            secret.name
        );
    }
}

fn is_guarded(place: &Place, lockable: Lockable) -> bool {
    place.is_not_dumped() && place.is_locked() == (lockable == Lockable::Inherited)
}
