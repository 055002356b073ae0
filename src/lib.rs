//! A credential vault with key rotation, inside your own database.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    allow(unused, reason = "without a store, nothing calls what a store would")
)]

pub mod clock;
mod credential;
mod crypto;
mod envelope;
mod error;
mod id;
mod keyring;
pub mod provider;
mod rotation;
mod secret;
mod store;
mod vault;

pub use credential::{
    Credential, CredentialType, MAX_FIELDS, MAX_NAME_BYTES, MAX_TYPE_CHARS, MAX_VALUE_BYTES, Revision,
    Stored, Summary,
};
pub use error::{Error, ErrorKind, Result};
pub use id::{DataKeyId, IntegrationId, MasterKeyId, OrganizationId, VaultId};
pub use rotation::{
    Adoption, AdoptionReport, DataKeySummary, LEGACY_ROWS_TRIED, LegacySalt, Outcome, Progress, Rewrap,
    RewrapReport, Rotation, RotationReport,
};
pub use secret::{ExposeSecret, SecretText};
pub use store::migrate::{MigrationName, is_empty_database, migrate, pending_migrations};
pub use store::{Connection, KeyState, Phase};
pub use vault::{
    Finding, Keys, MAX_FINDINGS, MasterKeySummary, Organization, Problem, Status, Vault, VaultBuilder,
    Verification, Verify,
};
