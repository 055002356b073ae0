//! Master keys under a key of Azure Key Vault, or of a managed HSM: on keys that really wrap, behind a double of Azure.

pub(crate) mod counterpart;
mod double;
mod faults;
mod keys;
mod sign_in;
mod vaults;

use counterpart::Key;
use credvault::provider::ProviderRecord;
use credvault::{Error, ErrorKind};

use crate::conformance::context;

/// A vault's keys wrap by RSA.
mod vault {
    crate::conformance::conformance!(crate::azure_kv::counterpart::InVault: keys, records, services);
}

/// A managed HSM's wrap by AES.
mod hsm {
    crate::conformance::conformance!(crate::azure_kv::counterpart::InHsm: keys, records, services);
}

/// The version in a record.
fn version_of(record: &ProviderRecord) -> String {
    record.as_str().split('$').nth(3).unwrap().rsplit('/').next().unwrap().to_owned()
}

#[track_caller]
fn assert_says(error: &Error, kind: ErrorKind, says: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    for said in says {
        assert!(text.contains(said), "{said} is not in: {text}");
    }
    assert!(!format!("{error:?}").contains("hunter2"), "what Azure said is repeated: {error:?}");
}
