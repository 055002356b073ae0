//! The vault's identity and its master keys' records: the trait, and the bodies that both dialects share.

use async_trait::async_trait;
use time::Duration;

use super::On;
use super::migrate::MigrationName;
use super::rows::{Identity, MasterKeyRow, NewMasterKey, NewVault, Phase, WrappedKey};
use super::runs::RunId;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::MasterKeyId;

/// The tables `vault_identity` and `vault_master_keys`, and how a vault begins.
#[async_trait]
pub(crate) trait KeyStore {
    /// Brings the schema up to date; gives what was applied.
    async fn migrate(&self) -> Result<Vec<MigrationName>>;

    /// The vault, or `None` if the database holds none yet.
    async fn identity(&self) -> Result<Option<Identity>>;

    /// Writes a new vault with its active master key and its first data key, pre-active, in one transaction;
    /// `false`, and nothing written, if there is one already.
    async fn initialize(&self, vault: &NewVault) -> Result<bool>;

    /// The master keys, oldest first.
    async fn master_keys(&self, on: On<'_>) -> Result<Vec<MasterKeyRow>>;

    /// Records a master key, pre-active; `false` if its id is known.
    async fn insert_master_key(&self, key: &NewMasterKey) -> Result<bool>;

    /// Replaces a master key's provider record; `false`, and nothing changed, if it isn't any more what `row` says.
    async fn replace_provider_record(&self, row: &MasterKeyRow, record: &str) -> Result<bool>;

    /// Makes a master key the active one of its scope and deactivates the one before it, in one transaction; `false`, and nothing
    /// changed, if the run lost its lease.
    async fn activate_master_key(&self, run: RunId, id: MasterKeyId) -> Result<bool>;

    /// The database's time, moved by a clock's offset.
    async fn now(&self, clock_offset: Duration) -> Result<Timestamp>;

    /// Moves the adoption on; `false`, and nothing changed, if it is in another phase.
    async fn set_phase(&self, from: Phase, to: Phase) -> Result<bool>;

    /// Stores the legacy key in place of its placeholder and begins the phase observe, in one transaction;
    /// `false`, and nothing changed, if it is registered already.
    async fn register_legacy_key(&self, key_check: [u8; 16], wrapped: &WrappedKey) -> Result<bool>;
}

/// Implements [`KeyStore`] for a dialect's store, given its row type; `migrate` and `begin` are the dialect's own.
macro_rules! key_store {
    ($store:ty, $row:ty) => {
        fn master_key_row(row: $row) -> Result<MasterKeyRow> {
            let say = |error| failure("reading a master key's record", error);
            let state: String = row.try_get("state").map_err(say)?;
            let id = MasterKeyId::from(row.try_get::<Id, _>("id").map_err(say)?);
            Ok(MasterKeyRow {
                id,
                organization: row
                    .try_get::<Option<Id>, _>("organization_id")
                    .map_err(say)?
                    .map(OrganizationId::from),
                provider: row.try_get("provider").map_err(say)?,
                provider_record: row.try_get("provider_record").map_err(say)?,
                key_check: row.try_get("key_check").map_err(say)?,
                state: KeyState::parse(&state).ok_or_else(|| unknown_state(&id.to_string(), &state))?,
                wraps: row.try_get::<i64, _>("wraps").map_err(say)?.cast_unsigned(),
            })
        }

        fn unknown_state(id: &str, state: &str) -> Error {
            Error::new(ErrorKind::Malformed, format!("key {id} is in the unknown state {state:?}"))
        }

        /// Keeps a run from ending before the transaction does; `false` if it has lost its lease.
        async fn hold(connection: &mut Conn, run: Option<RunId>) -> sqlx::Result<bool> {
            let Some(run) = run else { return Ok(true) };
            let held = sqlx::query(sql::HOLD_RUN).bind(run.0).execute(connection).await?;
            Ok(held.rows_affected() == 1)
        }

        async fn write_master_key(connection: &mut Conn, key: &NewMasterKey) -> sqlx::Result<bool> {
            sqlx::query(sql::INSERT_MASTER_KEY)
                .bind(Id::from(key.id))
                .bind(key.provider.as_str())
                .bind(key.provider_record.as_str())
                .bind(key.key_check.as_slice())
                .bind(key.organization.map(Id::from))
                .execute(connection)
                .await
                .map(|done| done.rows_affected() == 1)
        }

        #[async_trait]
        impl KeyStore for $store {
            async fn migrate(&self) -> Result<Vec<MigrationName>> {
                migrate(&self.pool).await
            }

            async fn identity(&self) -> Result<Option<Identity>> {
                const DOING: &str = "reading the vault's identity";
                let row = sqlx::query(sql::IDENTITY)
                    .fetch_optional(&self.pool)
                    .await
                    .map_err(|error| failure(DOING, error))?;
                row.map(|row: $row| {
                    let phase: String = row.try_get(1).map_err(|error| failure(DOING, error))?;
                    Ok(Identity {
                        vault: row.try_get::<Id, _>(0).map_err(|error| failure(DOING, error))?.into(),
                        phase: Phase::parse(&phase).ok_or_else(|| {
                            Error::new(
                                ErrorKind::Unsupported,
                                format!(
                                    "the vault is in the unknown phase {phase:?}: a newer version wrote it"
                                ),
                            )
                        })?,
                    })
                })
                .transpose()
            }

            async fn initialize(&self, vault: &NewVault) -> Result<bool> {
                let (pool, vault) = (self.pool.clone(), vault.clone());
                to_the_end(async move {
                    let say = |error| failure("writing the new vault", error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    let identity = sqlx::query(sql::INSERT_IDENTITY)
                        .bind(Id::from(vault.vault))
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    if identity.rows_affected() != 1 {
                        transaction.rollback().await.map_err(say)?;
                        return Ok(false);
                    }
                    write_master_key(&mut transaction, &vault.master_key).await.map_err(say)?;
                    sqlx::query(sql::ACTIVATE_MASTER_KEY)
                        .bind(Id::from(vault.master_key.id))
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    write_data_key(&mut transaction, &vault.data_key).await.map_err(say)?;
                    transaction.commit().await.map_err(say)?;
                    Ok(true)
                })
                .await
            }

            async fn master_keys(&self, on: On<'_>) -> Result<Vec<MasterKeyRow>> {
                const DOING: &str = "reading the master keys' records";
                let mut connection = self.connection(DOING, on).await?;
                let rows = sqlx::query(sql::MASTER_KEYS)
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(|error| failure(DOING, error))?;
                rows.into_iter().map(master_key_row).collect()
            }

            async fn insert_master_key(&self, key: &NewMasterKey) -> Result<bool> {
                const DOING: &str = "recording the master key";
                let mut connection = self.connection(DOING, On::Pool).await?;
                write_master_key(&mut connection, key).await.map_err(|error| failure(DOING, error))
            }

            async fn replace_provider_record(&self, row: &MasterKeyRow, record: &str) -> Result<bool> {
                const DOING: &str = "replacing a master key's record";
                let mut connection = self.connection(DOING, On::Pool).await?;
                let done = sqlx::query(sql::REPLACE_PROVIDER_RECORD)
                    .bind(Id::from(row.id))
                    .bind(&row.provider_record)
                    .bind(record)
                    .execute(&mut *connection)
                    .await
                    .map_err(|error| failure(DOING, error))?;
                Ok(done.rows_affected() == 1)
            }

            async fn activate_master_key(&self, run: RunId, id: MasterKeyId) -> Result<bool> {
                let pool = self.pool.clone();
                to_the_end(async move {
                    let say = |error| failure("switching the master key", error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    if !hold(&mut transaction, Some(run)).await.map_err(say)? {
                        transaction.rollback().await.map_err(say)?;
                        return Ok(false);
                    }
                    let statements =
                        [sql::HOLD_SHARED_MASTER_KEY, sql::DEACTIVATE_MASTER_KEY, sql::ACTIVATE_MASTER_KEY];
                    for statement in statements {
                        sqlx::query(statement)
                            .bind(Id::from(id))
                            .execute(&mut *transaction)
                            .await
                            .map_err(say)?;
                    }
                    transaction.commit().await.map_err(say)?;
                    Ok(true)
                })
                .await
            }

            async fn now(&self, clock_offset: Duration) -> Result<Timestamp> {
                sqlx::query_scalar::<_, Time>(sql::NOW)
                    .bind(microseconds(clock_offset))
                    .fetch_one(&self.pool)
                    .await
                    .map(Time::timestamp_or_epoch)
                    .map_err(|error| failure("asking the database's time", error))
            }

            async fn set_phase(&self, from: Phase, to: Phase) -> Result<bool> {
                sqlx::query(sql::SET_PHASE)
                    .bind(to.as_str())
                    .bind(from.as_str())
                    .execute(&self.pool)
                    .await
                    .map(|done| done.rows_affected() == 1)
                    .map_err(|error| failure("moving the adoption on", error))
            }

            async fn register_legacy_key(&self, key_check: [u8; 16], wrapped: &WrappedKey) -> Result<bool> {
                let (pool, wrapped) = (self.pool.clone(), wrapped.clone());
                to_the_end(async move {
                    let say = |error| failure("registering the legacy key", error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    let material = sqlx::query(sql::SET_LEGACY_MATERIAL)
                        .bind(Id::from(wrapped.master_key))
                        .bind(wrapped.text)
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    let check = sqlx::query(sql::SET_LEGACY_KEY_CHECK)
                        .bind(key_check.as_slice())
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    let registered = material.rows_affected() == 1 && check.rows_affected() == 1;
                    if registered {
                        sqlx::query(sql::SET_PHASE)
                            .bind(Phase::Observe.as_str())
                            .bind(Phase::None.as_str())
                            .execute(&mut *transaction)
                            .await
                            .map_err(say)?;
                        transaction.commit().await.map_err(say)?;
                    } else {
                        transaction.rollback().await.map_err(say)?;
                    }
                    Ok(registered)
                })
                .await
            }
        }
    };
}
pub(super) use key_store;
