//! A vault's database in memory.

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnectOptions;

use super::MemoryKey;
use crate::error::Result;
use crate::store::sqlite;
use crate::vault::{Vault, VaultBuilder};

/// A vault of its own: SQLite in memory, migrated, with a fresh master key; gone with its last clone.
///
/// ```
/// use credvault::test_util::{self, PlainCredential};
/// use credvault::{Credential, CredentialType};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> credvault::Result<()> {
/// let vault = test_util::vault().await?;
/// let organization = vault.organization(uuid::Uuid::new_v4());
/// let github = organization.ensure_integration("github").await?;
///
/// let token = Credential::new(CredentialType::token()).with_field("access_token", "ghp_…");
/// organization.put(github, &token).await?;
/// let stored = organization.get(github).await?.expect("it was just put").credential;
/// assert_eq!(PlainCredential::from(&stored), PlainCredential::from(&token));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `Provider` if the random generator fails, `Store` if SQLite does.
pub async fn vault() -> Result<Vault> {
    in_memory().master_key_provider(MemoryKey::generate()?).build().await
}

/// Begins to make a vault in a database of its own in memory. Give it a master key, such as a [`MemoryKey`], perhaps in a
/// [`FaultyProvider`](super::FaultyProvider), and a [`ManualClock`](super::ManualClock) if you like.
///
/// The database has one connection, which is the vault's: calls take turns, statement by statement. For `put_in`, or
/// another vault on the same database, see [`memory_pool`].
#[must_use]
pub fn in_memory() -> VaultBuilder {
    Vault::builder().url("sqlite::memory:").create_if_missing()
}

/// A pool on an empty database in memory, for [`VaultBuilder::sqlite`]: to write in transactions of your own, look at the
/// rows, or open several vaults on one database, as the processes of a fleet.
///
/// **It has one connection**, since another would have a database of its own. While your transaction has it, only `put_in` and
/// `update_in` with that transaction get on; any other call waits until it ends, and fails with a retryable `Store` after
/// 30 seconds. A test that does so on purpose belongs on a file, or on PostgreSQL.
///
/// ```
/// use credvault::test_util::{self, MemoryKey};
/// use credvault::{Credential, CredentialType, Vault};
/// use uuid::Uuid;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = test_util::memory_pool().await?;
/// let key = MemoryKey::generate()?;
/// let vault =
///     Vault::builder().sqlite(pool.clone()).master_key_provider(key.clone()).create_if_missing().build().await?;
///
/// let (organization, integration) = (Uuid::new_v4(), Uuid::new_v4());
/// let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
/// sqlx::query(
///     "INSERT INTO integrations (id, organization_id, user_id, connector_type, status)
///      VALUES ($1, $2, $3, 'github', 'active')",
/// )
/// .bind(integration.hyphenated())
/// .bind(organization.hyphenated())
/// .bind(Uuid::new_v4().hyphenated())
/// .execute(&mut *transaction)
/// .await?;
/// let token = Credential::new(CredentialType::token()).with_field("access_token", "ghp_…");
/// vault.organization(organization).put_in(&mut *transaction, integration, &token).await?;
/// transaction.commit().await?;
///
/// // Another process of the fleet, with the same master key.
/// let other = Vault::builder().sqlite(pool).master_key_provider(key).build().await?;
/// assert!(other.organization(organization).get(integration).await?.is_some());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// `Store` if SQLite fails.
pub async fn memory_pool() -> Result<SqlitePool> {
    sqlite::memory_pool(SqliteConnectOptions::new().in_memory(true)).await
}
