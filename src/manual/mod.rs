//! The manual: how credvault works, what it protects, and how to run it. Documentation only.
//!
//! - [`mod@format`]: the bytes of a stored value, a wrapped key and a master key as text
//! - [`threat_model`]: who gets what, and what nothing here can prevent
//! - [`rotation`]: the protocol of a rotation and a rewrap, and the adoption of older rows
//! - [`protocol`]: why the rotation protocol has each of its parts, and the model that tries it
//! - [`operations`]: setting up, backups, schedules, exit codes, changing the master key
//! - [`providers`]: where master keys come from, and what key services have in common
//! - [`comparison`]: Asherah, Vault transit, Lockbox, Airflow, and where they are the better choice
//! - [`output`]: the documents of the command's `--output json`
//! - [`testing`]: what a service can test without a server, and what it can not
//!
//! The tables themselves are described in `migrations/README.md`.

// The names that the pages link to, so that their text reads well without rustdoc, too.
#[cfg(doc)]
use crate::provider::{MasterKeyProvider, ProviderContext};
#[cfg(doc)]
use crate::{
    Blocker, Credential, CredentialLine, Error, Grace, Keys, MAX_FIELDS, MAX_NAME_BYTES, MAX_TYPE_CHARS,
    MAX_VALUE_BYTES, Organization, Outcome, Quarantine, Revision, Rotation, Vault, VaultBuilder,
};

#[doc = include_str!("format.md")]
pub mod format {}

#[doc = include_str!("threat_model.md")]
pub mod threat_model {}

#[doc = include_str!("rotation.md")]
pub mod rotation {}

#[doc = include_str!("protocol.md")]
pub mod protocol {}

#[doc = include_str!("operations.md")]
pub mod operations {}

#[doc = include_str!("providers.md")]
pub mod providers {
    #[doc = include_str!("providers/aws_kms.md")]
    pub mod aws_kms {}

    #[doc = include_str!("providers/azure_kv.md")]
    pub mod azure_kv {}

    #[doc = include_str!("providers/exec.md")]
    pub mod exec {}

    #[doc = include_str!("providers/gcp_kms.md")]
    pub mod gcp_kms {}

    #[doc = include_str!("providers/pkcs11.md")]
    pub mod pkcs11 {}

    #[doc = include_str!("providers/vault_transit.md")]
    pub mod vault_transit {}
}

#[doc = include_str!("output.md")]
pub mod output {}

#[doc = include_str!("comparison.md")]
pub mod comparison {}

#[doc = include_str!("testing.md")]
pub mod testing {}
