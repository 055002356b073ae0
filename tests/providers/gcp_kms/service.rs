//! What Cloud KMS does with keys and versions, with real encryption: version, nonce and AES-256-GCM, whose associated data is
//! the caller's and the name of the key.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use uuid::Uuid;

struct Version {
    cipher: Aes256Gcm,
    state: &'static str,
}

static KEYS: LazyLock<Mutex<HashMap<String, Vec<Version>>>> = LazyLock::new(Mutex::default);

/// What is not done, as `google.rpc` has it: HTTP status, code and message.
pub(super) type Failure = (u16, &'static str, String);

/// A key with one version.
pub(super) fn create_key() -> String {
    let name = format!(
        "projects/credvault-test/locations/europe-west3/keyRings/vaults/cryptoKeys/k-{}",
        Uuid::new_v4()
    );
    rotate(&name);
    name
}

/// A new version, which is the primary from now on.
pub(super) fn rotate(key: &str) {
    let bytes = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
    let version = Version { cipher: Aes256Gcm::new_from_slice(&bytes).unwrap(), state: "ENABLED" };
    KEYS.lock().unwrap().entry(key.to_owned()).or_default().push(version);
}

/// `ENABLED`, `DISABLED`, `DESTROY_SCHEDULED` or `DESTROYED`.
pub(super) fn set_state(key: &str, number: usize, state: &'static str) {
    KEYS.lock().unwrap().get_mut(key).unwrap()[number - 1].state = state;
}

/// The version that encrypted, and the ciphertext.
pub(super) fn encrypt(key: &str, plaintext: &[u8], bound: &[u8]) -> Result<(String, Vec<u8>), Failure> {
    with_version(key, None, |number, cipher| {
        let nonce: [u8; 12] = Uuid::new_v4().as_bytes()[..12].try_into().unwrap();
        let aad = [bound, key.as_bytes()].concat();
        let mut sealed = plaintext.to_vec();
        let tag = cipher.encrypt_inout_detached(&nonce.into(), &aad, sealed.as_mut_slice().into()).unwrap();
        let number_bytes = u32::try_from(number).unwrap().to_be_bytes();
        Ok((format!("{key}/cryptoKeyVersions/{number}"), [&number_bytes[..], &nonce, &sealed, &tag].concat()))
    })
}

/// The plaintext, and whether the primary version encrypted it.
pub(super) fn decrypt(key: &str, ciphertext: &[u8], bound: &[u8]) -> Result<(Vec<u8>, bool), Failure> {
    let failed = || {
        let what = "Decryption failed: verify that 'name' refers to the correct CryptoKey. hunter2";
        (400, "INVALID_ARGUMENT", what.to_owned())
    };
    let (number, rest) = ciphertext.split_first_chunk::<4>().ok_or_else(failed)?;
    let (nonce, sealed) = rest.split_first_chunk::<12>().ok_or_else(failed)?;
    let (sealed, tag) = sealed.split_last_chunk::<16>().ok_or_else(failed)?;
    let number = usize::try_from(u32::from_be_bytes(*number)).unwrap();
    let aad = [bound, key.as_bytes()].concat();
    let versions = KEYS.lock().unwrap().get(key).map_or(0, Vec::len);
    if versions > 0 && !(1..=versions).contains(&number) {
        return Err(failed());
    }
    with_version(key, Some(number), |_, cipher| {
        let mut plaintext = sealed.to_vec();
        let bytes = plaintext.as_mut_slice().into();
        let opened = cipher.decrypt_inout_detached(&(*nonce).into(), &aad, bytes, &(*tag).into());
        opened.map(|()| (plaintext, number == versions)).map_err(|_| failed())
    })
}

fn with_version<T>(
    key: &str,
    number: Option<usize>,
    work: impl FnOnce(usize, &Aes256Gcm) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let keys = KEYS.lock().unwrap();
    let versions =
        keys.get(key).ok_or_else(|| (404, "NOT_FOUND", format!("CryptoKey {key} not found. hunter2")))?;
    let number = number.unwrap_or(versions.len());
    let version = &versions[number - 1];
    match version.state {
        "ENABLED" => work(number, &version.cipher),
        state => {
            let what = format!("{key}/cryptoKeyVersions/{number} is not enabled, current state is: {state}.");
            Err((400, "FAILED_PRECONDITION", what))
        }
    }
}
