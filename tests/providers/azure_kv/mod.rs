//! Master keys under a key of Azure Key Vault, or of a managed HSM: on keys that really wrap, behind a double of Azure.

pub(crate) mod counterpart;
mod double;
mod faults;
mod keys;
mod sign_in;
mod vaults;

use counterpart::Key;
use credvault::provider::ProviderRecord;

use crate::conformance::context;
use crate::errors::assert_says;

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
