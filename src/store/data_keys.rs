//! The data keys' records and their material: the trait, and the bodies that both dialects share.

use async_trait::async_trait;
use time::Duration;

use super::On;
use super::rows::{DataKeyRow, Destruction, Insertion, NewDataKey, Switch, WrappedKey};
use super::runs::RunId;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{DataKeyId, OrganizationId};

/// Judges a wrapped key's text as it was read back, inside the transaction that wrote it.
pub(crate) type CheckWrapped = Box<dyn FnOnce(&str) -> Result<()> + Send>;

/// The tables `vault_data_keys` and `vault_key_material`.
#[async_trait]
pub(crate) trait DataKeyStore {
    /// A data key.
    async fn data_key(&self, on: On<'_>, id: DataKeyId) -> Result<Option<DataKeyRow>>;

    /// The active data key of an organization's scope, or the shared one.
    async fn active_data_key(
        &self,
        on: On<'_>,
        organization: Option<OrganizationId>,
    ) -> Result<Option<DataKeyRow>>;

    /// All data keys, oldest first; `Malformed` in the place of a record that names no key, or isn't as it was written.
    async fn data_keys(&self) -> Result<Vec<Result<DataKeyRow>>>;

    /// Records a data key, pre-active, with its material, in one transaction, unless its scope has a pre-active key already
    /// or its master key is not the active one; for a `run`, only as long as that has its lease.
    async fn insert_data_key(&self, key: &NewDataKey, run: Option<RunId>) -> Result<Insertion>;

    /// Makes a pre-active data key the active one of its scope and deactivates the one before it, in one transaction;
    /// for a `run`, only as long as that has its lease.
    async fn switch_data_key(
        &self,
        id: DataKeyId,
        organization: Option<OrganizationId>,
        clock_offset: Duration,
        run: Option<RunId>,
    ) -> Result<Switch>;

    /// Marks a data key compromised from now on; `false` if it was, or is destroyed.
    async fn mark_compromised(&self, id: DataKeyId, clock_offset: Duration) -> Result<bool>;

    /// Marks a deactivated data key unused from now on; `false` if it was.
    async fn mark_unused(&self, id: DataKeyId, clock_offset: Duration) -> Result<bool>;

    /// Takes that mark away.
    async fn mark_used(&self, id: DataKeyId) -> Result<()>;

    /// Deletes the material of a data key that is deactivated and was unused at `unused_by`, and keeps its record, in one
    /// transaction.
    ///
    /// # Errors
    ///
    /// `Refused` by the database as long as a row names the key; `Store` if it fails.
    async fn destroy_data_key(
        &self,
        id: DataKeyId,
        unused_by: Timestamp,
        clock_offset: Duration,
    ) -> Result<Destruction>;

    /// Replaces a data key's wrapped text by compare-and-swap, reads it back and has it judged before the commit;
    /// `false`, and nothing changed, if the old text no longer stands.
    async fn swap_material(
        &self,
        data_key: DataKeyId,
        old: &WrappedKey,
        new: &WrappedKey,
        check: CheckWrapped,
    ) -> Result<bool>;
}

/// Implements [`DataKeyStore`] for a dialect's store, given its row type; `begin` is the dialect's own.
macro_rules! data_key_store {
    ($store:ty, $row:ty) => {
        fn data_key_row(row: $row) -> Result<DataKeyRow> {
            const DOING: &str = "reading a data key's record";
            let say = |error| failure(DOING, error);
            let state: String = row.try_get("state").map_err(say)?;
            let id: String = row.try_get("id").map_err(say)?;
            let master_key = row.try_get::<Option<Id>, _>("master_key_id").map_err(say)?;
            let text = row.try_get::<Option<String>, _>("wrapped_key").map_err(say)?;
            let time = |column: &str| -> Result<Option<Timestamp>> {
                Ok(row.try_get::<Option<Time>, _>(column).map_err(say)?.and_then(Time::timestamp))
            };
            Ok(DataKeyRow {
                id: id.parse().map_err(|_| {
                    Error::new(ErrorKind::Malformed, format!("a data key's record names no key: {id:?}"))
                })?,
                organization: row
                    .try_get::<Option<Id>, _>("organization_id")
                    .map_err(say)?
                    .map(OrganizationId::from),
                state: KeyState::parse(&state).ok_or_else(|| unknown_state(&id, &state))?,
                key_check: row.try_get("key_check").map_err(say)?,
                wrapped: master_key
                    .zip(text)
                    .map(|(master_key, text)| WrappedKey { master_key: master_key.into(), text }),
                created_at: row.try_get::<Time, _>("created_at").map_err(say)?.timestamp_or_epoch(),
                activated_at: time("activated_at")?,
                deactivated_at: time("deactivated_at")?,
                destroyed_at: time("destroyed_at")?,
                compromised_at: time("compromised_at")?,
                unused_since: time("unused_since")?,
            })
        }

        /// Writes a data key and its material; `false` if the first was refused.
        async fn write_data_key(connection: &mut Conn, key: &NewDataKey) -> sqlx::Result<bool> {
            if key.organization.is_some() {
                // By itself: who waits here for the organization to get a master key sees that in the next statement.
                sqlx::query(sql::KEEP_MASTER_KEY)
                    .bind(Id::from(key.wrapped.master_key))
                    .execute(&mut *connection)
                    .await?;
            }
            let inserted = sqlx::query(sql::INSERT_DATA_KEY)
                .bind(key.id.to_string())
                .bind(key.organization.map(Id::from))
                .bind(key.key_check.as_slice())
                .bind(Id::from(key.wrapped.master_key))
                .execute(&mut *connection)
                .await?;
            if inserted.rows_affected() != 1 {
                return Ok(false);
            }
            sqlx::query(sql::INSERT_MATERIAL)
                .bind(key.id.to_string())
                .bind(Id::from(key.wrapped.master_key))
                .bind(key.wrapped.text.as_str())
                .execute(&mut *connection)
                .await?;
            Ok(true)
        }

        /// Sets a time of a data key to now; `false` if the statement finds it set, or the key in another state.
        async fn mark(
            pool: &Pool,
            statement: &'static str,
            id: DataKeyId,
            clock_offset: Duration,
        ) -> sqlx::Result<bool> {
            sqlx::query(statement)
                .bind(id.to_string())
                .bind(microseconds(clock_offset))
                .execute(pool)
                .await
                .map(|done| done.rows_affected() == 1)
        }

        #[async_trait]
        impl DataKeyStore for $store {
            async fn data_key(&self, on: On<'_>, id: DataKeyId) -> Result<Option<DataKeyRow>> {
                const DOING: &str = "reading a data key's record";
                let mut connection = self.connection(DOING, on).await?;
                let row = sqlx::query(sql::DATA_KEY)
                    .bind(id.to_string())
                    .fetch_optional(&mut *connection)
                    .await
                    .map_err(|error| failure(DOING, error))?;
                row.map(data_key_row).transpose()
            }

            async fn active_data_key(
                &self,
                on: On<'_>,
                organization: Option<OrganizationId>,
            ) -> Result<Option<DataKeyRow>> {
                const DOING: &str = "reading the active data key's record";
                let mut connection = self.connection(DOING, on).await?;
                let row = sqlx::query(sql::ACTIVE_DATA_KEY)
                    .bind(organization.map(Id::from))
                    .fetch_optional(&mut *connection)
                    .await
                    .map_err(|error| failure(DOING, error))?;
                row.map(data_key_row).transpose()
            }

            async fn data_keys(&self) -> Result<Vec<Result<DataKeyRow>>> {
                let rows = sqlx::query(sql::DATA_KEYS)
                    .fetch_all(&self.pool)
                    .await
                    .map_err(|error| failure("reading the data keys' records", error))?;
                Ok(rows.into_iter().map(data_key_row).collect())
            }

            async fn insert_data_key(&self, key: &NewDataKey, run: Option<RunId>) -> Result<Insertion> {
                let (pool, key) = (self.pool.clone(), key.clone());
                to_the_end(async move {
                    let say = |error| failure("recording the data key", error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    if !hold(&mut transaction, run).await.map_err(say)? {
                        transaction.rollback().await.map_err(say)?;
                        return Ok(Insertion::Fenced);
                    }
                    let inserted = write_data_key(&mut transaction, &key).await.map_err(say)?;
                    transaction.commit().await.map_err(say)?;
                    Ok(if inserted { Insertion::Done } else { Insertion::Refused })
                })
                .await
            }

            async fn switch_data_key(
                &self,
                id: DataKeyId,
                organization: Option<OrganizationId>,
                clock_offset: Duration,
                run: Option<RunId>,
            ) -> Result<Switch> {
                let pool = self.pool.clone();
                to_the_end(async move {
                    let say = |error| failure("switching the data key", error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    if !hold(&mut transaction, run).await.map_err(say)? {
                        transaction.rollback().await.map_err(say)?;
                        return Ok(Switch::Fenced);
                    }
                    let offset = microseconds(clock_offset);
                    // Two statements: one with CASE can break the unique index of active keys half-way.
                    let deactivate = match organization {
                        None => sqlx::query(sql::DEACTIVATE_SHARED_KEY).bind(id.to_string()).bind(offset),
                        Some(organization) => sqlx::query(sql::DEACTIVATE_ORGANIZATION_KEY)
                            .bind(id.to_string())
                            .bind(offset)
                            .bind(Id::from(organization)),
                    };
                    deactivate.execute(&mut *transaction).await.map_err(say)?;
                    let activated = sqlx::query(sql::ACTIVATE_DATA_KEY)
                        .bind(id.to_string())
                        .bind(offset)
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    if activated.rows_affected() != 1 {
                        transaction.rollback().await.map_err(say)?;
                        return Ok(Switch::NotPreActive);
                    }
                    transaction.commit().await.map_err(say)?;
                    Ok(Switch::Done)
                })
                .await
            }

            async fn mark_compromised(&self, id: DataKeyId, clock_offset: Duration) -> Result<bool> {
                const DOING: &str = "marking a data key compromised";
                mark(&self.pool, sql::MARK_COMPROMISED, id, clock_offset)
                    .await
                    .map_err(|error| failure(DOING, error))
            }

            async fn mark_unused(&self, id: DataKeyId, clock_offset: Duration) -> Result<bool> {
                const DOING: &str = "marking a data key unused";
                mark(&self.pool, sql::MARK_UNUSED, id, clock_offset)
                    .await
                    .map_err(|error| failure(DOING, error))
            }

            async fn mark_used(&self, id: DataKeyId) -> Result<()> {
                sqlx::query(sql::MARK_USED)
                    .bind(id.to_string())
                    .execute(&self.pool)
                    .await
                    .map(drop)
                    .map_err(|error| failure("marking a data key used", error))
            }

            async fn destroy_data_key(
                &self,
                id: DataKeyId,
                unused_by: Timestamp,
                clock_offset: Duration,
            ) -> Result<Destruction> {
                let pool = self.pool.clone();
                to_the_end(async move {
                    let say = |error| failure("destroying a data key", error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    let held = sqlx::query(sql::HOLD_UNUSED_KEY)
                        .bind(id.to_string())
                        .bind(Time::from(unused_by))
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    if held.rows_affected() != 1 {
                        transaction.rollback().await.map_err(say)?;
                        return Ok(Destruction::NotUnused);
                    }
                    let deleted = sqlx::query(sql::DELETE_MATERIAL)
                        .bind(id.to_string())
                        .execute(&mut *transaction)
                        .await;
                    if deleted.as_ref().is_err_and(is_for_want_of_a_right) {
                        transaction.rollback().await.map_err(say)?;
                        return Ok(Destruction::NotAllowed);
                    }
                    deleted.map_err(say)?;
                    sqlx::query(sql::MARK_DESTROYED)
                        .bind(id.to_string())
                        .bind(microseconds(clock_offset))
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    transaction.commit().await.map_err(say)?;
                    Ok(Destruction::Done)
                })
                .await
            }

            async fn swap_material(
                &self,
                data_key: DataKeyId,
                old: &WrappedKey,
                new: &WrappedKey,
                check: CheckWrapped,
            ) -> Result<bool> {
                let (pool, old, new) = (self.pool.clone(), old.clone(), new.clone());
                to_the_end(async move {
                    let say = |error| failure("swapping the wrapped data key", error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    let swapped = sqlx::query(sql::SWAP_MATERIAL)
                        .bind(data_key.to_string())
                        .bind(old.text)
                        .bind(Id::from(new.master_key))
                        .bind(new.text)
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    if swapped.rows_affected() != 1 {
                        transaction.rollback().await.map_err(say)?;
                        return Ok(false);
                    }
                    let written: String = sqlx::query_scalar(sql::MATERIAL)
                        .bind(data_key.to_string())
                        .fetch_one(&mut *transaction)
                        .await
                        .map_err(say)?;
                    check(&written)?;
                    transaction.commit().await.map_err(say)?;
                    Ok(true)
                })
                .await
            }
        }
    };
}
pub(super) use data_key_store;
