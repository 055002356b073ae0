//! A credential vault with key rotation, inside your own database.
//!
//! For services that keep other people's tokens: it seals them into the table `integration_credentials` of your
//! PostgreSQL or SQLite database, reads them back, and replaces the keys while the service goes on.
//!
//! ```
//! use credvault::{Credential, CredentialType, ExposeSecret, Vault, provider::KeyFile};
//!
//! # #[cfg(feature = "sqlite")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let key_path = folder.path().join("master.key");
//! # let (url, key) = (format!("sqlite:{}", folder.path().join("vault.db").display()), format!("file:{}", key_path.display()));
//! # let organization_id = uuid::Uuid::new_v4();
//! KeyFile::generate(&key_path)?; // once; back it up
//! let vault = Vault::builder().url(&url).master_key(&key)?.create_if_missing().build().await?;
//!
//! let organization = vault.organization(organization_id);
//! let github = organization.ensure_integration("github").await?;
//! let token = Credential::new(CredentialType::token()).with_field("access_token", "ghp_…");
//! organization.put(github, &token).await?;
//!
//! let stored = organization.get(github).await?.ok_or("no credential")?;
//! assert_eq!(stored.credential.field("access_token").map(|it| it.expose_secret()), Some("ghp_…"));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "sqlite"))]
//! # fn main() {}
//! ```
//!
//! # Where to begin
//!
//! | You want to | Begin at |
//! |---|---|
//! | store and read credentials | [`Vault`], [`Organization`], [`Credential`] |
//! | write within a transaction of your own | [`Organization::put_in`] |
//! | not lose an update | [`Organization::update`], [`Revision`] |
//! | decide what an error means | [`Error`], [`ErrorKind`] |
//! | say where the master key is | [`provider::from_spec`], [`provider::MasterKeyProvider`] |
//! | rotate data keys, change the master key | [`Vault::rotation`], [`Vault::rewrap`] |
//! | give an organization a key of its own | [`Vault::keys`] |
//! | take over rows of another service | [`Vault::adoption`] |
//! | read all credentials, or move them as lines of JSON | [`Vault::credentials`], [`CredentialLine`] |
//! | check everything, ask how it stands | [`Vault::verify`], [`Vault::status`] |
//! | know which rows did not open, and try them again | [`Vault::quarantine`] |
//! | know whether the master keys given suffice | [`VaultBuilder::check_master_keys`] |
//! | end a process in good order | [`Vault::close`] |
//! | keep a process's memory from others | [`forbid_core_dumps`] |
//! | see all that in a service | `examples/github_service` |
//! | migrate | [`migrate()`], [`VaultBuilder::create_if_missing`] |
//! | test a service that uses it | the module `test_util`, and [the page on it](manual::testing) |
//! | understand or operate it | the [`manual`] |
//!
//! # The house
//!
//! Directories are layers. Imports only point down this table, `provider` and `store` don't know each other, `store` sees
//! neither a key nor a plaintext, and there is no SQL above it. A test holds the code to that.
//!
//! ```text
//! bin/credvault/   the command
//! manual/          documentation only
//! test_util/       for the tests of services: a vault in memory, credentials to draw, faults; feature `test-util`
//! vault            the conductor: opens a database with its master keys, hands out what works on it
//! rotation/        the jobs: data-key rotation, rewrap, adoption of older rows
//! keyring          unwrapped keys in memory: bounded, with a time to live, each unwrapped once
//! store/           the tables: statements in, rows out; PostgreSQL, SQLite, migrations
//! provider/        where master keys come from: key file, variable, passphrase, a service of your own
//! envelope/        the stored format: seal, open, wrap, unwrap; legacy values, which only open
//! crypto/          XAES-256-GCM, argon2id, key types, subkeys, wiping, locked memory
//! id secret json credential clock limit error
//! ```
//!
//! # Features
//!
//! | Feature | Default | |
//! |---|---|---|
//! | `postgres` | yes | PostgreSQL, with TLS by rustls and the operating system's roots |
//! | `sqlite` | yes | SQLite, compiled in |
//! | `cli` | yes | the command `credvault`, with `sqlite`, and what only it needs |
//! | `pkcs11` | no | master keys under a key of a PKCS#11 token, [`provider::Pkcs11`] |
//! | `aws-kms` | no | master keys under a key of AWS KMS, [`provider::AwsKms`] |
//! | `azure-kv` | no | master keys under a key of Azure Key Vault or a managed HSM, [`provider::AzureKv`] |
//! | `vault-transit` | no | master keys under a key of HashiCorp Vault or OpenBao, [`provider::VaultTransit`] |
//! | `gcp-kms` | no | master keys under a key of Google Cloud KMS, [`provider::GcpKms`] |
//! | `test-util` | no | the module `test_util` for the tests of services, with `sqlite` |
//! | `exec` | no | master keys wrapped by a program of yours: `exec:/PATH`, on Unix |
//!
//! A service that embeds the library takes `default-features = false` and its one store.
#![warn(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a library neither panics nor prints"
)]
#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    allow(unused, reason = "without a store, nothing calls what a store would")
)]

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
pub mod clock;
mod credential;
mod crypto;
mod envelope;
mod error;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod id;
mod json;
mod keyring;
mod limit;
pub mod manual;
pub mod provider;
mod rotation;
mod secret;
mod store;
#[cfg(feature = "test-util")]
pub mod test_util;
mod vault;

pub use credential::{
    Credential, CredentialLine, CredentialType, MAX_FIELDS, MAX_NAME_BYTES, MAX_TYPE_CHARS, MAX_VALUE_BYTES,
    Revision, Stored, Summary,
};
pub use crypto::process::forbid_core_dumps;
pub use error::{Error, ErrorKind, Result};
pub use id::{DataKeyId, IntegrationId, MasterKeyId, OrganizationId, VaultId};
pub use rotation::{
    Adoption, AdoptionReport, Blocker, DataKeySummary, GRACE, LEGACY_ROWS_TRIED, LegacySalt,
    OlderTransactions, Outcome, Progress, Rewrap, RewrapReport, Rotation, RotationEvent, RotationEvents,
    RotationPlan, RotationReport, RunSummary, StopReason, Waiting, Withheld,
};
pub use secret::{ExposeSecret, SecretText};
pub use store::migrate::{MigrationName, is_empty_database, migrate, pending_migrations};
pub use store::{Connection, KeyState, Phase};
pub use vault::{
    Compromised, CredentialEntry, Credentials, CredentialsUnderKey, Finding, Grace, Keys, MAX_FINDINGS,
    MAX_SAMPLE_ROWS, MasterKeyCheck, MasterKeySummary, NeededMasterKey, Organization, Problem, ProviderCheck,
    Quarantine, QuarantineReport, QuarantinedCredential, RefreshedMasterKey, Status, Vault, VaultBuilder,
    Verification, Verify,
};

/// The examples of the README, as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
