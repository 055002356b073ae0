//! What a verification asks, and nobody else: the trait, and the bodies that both dialects share. All of it reads.

use async_trait::async_trait;

use super::rows::{DataKeyLife, MasterKeyLife, Orphans, PlacedRow};
use crate::error::Result;
use crate::id::IntegrationId;

/// Samples, the lives of keys, and what names something that isn't there.
#[async_trait]
pub(crate) trait InspectionStore {
    /// The integrations of `rows` credentials drawn from the whole table, of all where there are no more. Its cost grows
    /// with `rows`, not with the table, unless the table is full of holes.
    async fn sample(&self, rows: u32) -> Result<Vec<IntegrationId>>;

    /// The first credentials' rows of some integrations, in the order of their ids, at most [`MAX_PAGE_BYTES`]; none where
    /// either is gone. One statement.
    ///
    /// [`MAX_PAGE_BYTES`]: super::pages::MAX_PAGE_BYTES
    async fn rows_of(&self, integrations: &[IntegrationId]) -> Result<Vec<PlacedRow>>;

    /// The data keys' lives, oldest first, in one snapshot; records that name no key are left out.
    async fn data_key_lives(&self) -> Result<Vec<DataKeyLife>>;

    /// The master keys' lives, oldest first, in one snapshot.
    async fn master_key_lives(&self) -> Result<Vec<MasterKeyLife>>;

    /// Whether a key, as a row's column names it, has a row of material.
    async fn has_material(&self, key_column: &str) -> Result<bool>;

    /// The columns `data_key_id` of material whose data key has no record.
    async fn material_without_key(&self) -> Result<Vec<String>>;

    /// The credentials whose integration is gone, the first `limit` of them.
    async fn without_integration(&self, limit: u32) -> Result<Orphans>;

    /// The rows in quarantine whose credential is gone.
    async fn quarantined_without_row(&self) -> Result<Vec<IntegrationId>>;
}

/// Implements [`InspectionStore`] for a dialect's store, given its row type.
macro_rules! inspection_store {
    ($store:ty, $row:ty) => {
        fn key_times(row: &$row) -> sqlx::Result<KeyTimes> {
            let time = |column: &str| -> sqlx::Result<Option<Timestamp>> {
                Ok(row.try_get::<Option<Time>, _>(column)?.and_then(Time::timestamp))
            };
            Ok(KeyTimes {
                created_at: time("created_at")?,
                activated_at: time("activated_at")?,
                deactivated_at: time("deactivated_at")?,
                destroyed_at: time("destroyed_at")?,
            })
        }

        /// `None` for a record that names no key.
        fn data_key_life(row: &$row) -> sqlx::Result<Option<DataKeyLife>> {
            let id = row.try_get::<Text, _>("id")?.0.parse().ok();
            let state = KeyState::parse(&row.try_get::<Text, _>("state")?.0);
            let Some((id, state)) = id.zip(state) else { return Ok(None) };
            Ok(Some(DataKeyLife {
                id,
                organization: row.try_get::<Option<Id>, _>("organization_id")?.map(OrganizationId::from),
                state,
                times: key_times(row)?,
                unused_since: row.try_get::<Option<Time>, _>("unused_since")?.and_then(Time::timestamp),
                has_material: row.try_get("has_material")?,
            }))
        }

        fn master_key_life(row: &$row) -> sqlx::Result<Option<MasterKeyLife>> {
            let id = row.try_get::<Id, _>("id")?.into();
            let state = KeyState::parse(&row.try_get::<Text, _>("state")?.0);
            let times = key_times(row)?;
            Ok(state.map(|state| MasterKeyLife { id, state, times }))
        }

        #[async_trait]
        impl InspectionStore for $store {
            async fn sample(&self, rows: u32) -> Result<Vec<IntegrationId>> {
                let draw = async |statement| {
                    sqlx::query_scalar::<_, Id>(statement)
                        .bind(i64::from(rows))
                        .fetch_all(&self.pool)
                        .await
                        .map_err(|error| failure("drawing a sample of credentials", error))
                };
                let mut drawn = draw(sql::SAMPLE).await?;
                // A small table, or one full of holes.
                if (drawn.len() as u64) < u64::from(rows) {
                    drawn = draw(sql::SAMPLE_OF_ALL).await?;
                }
                Ok(drawn.into_iter().map(IntegrationId::from).collect())
            }

            async fn rows_of(&self, integrations: &[IntegrationId]) -> Result<Vec<PlacedRow>> {
                let placed = |row: &$row| -> sqlx::Result<PlacedRow> {
                    Ok(PlacedRow {
                        integration: row.try_get::<Id, _>("integration_id")?.into(),
                        organization: row.try_get::<Id, _>("organization_id")?.into(),
                        row: credential_row(row)?,
                    })
                };
                let ids: Vec<_> = integrations.iter().map(IntegrationId::to_string).collect();
                sqlx::query(sql::ROWS_OF)
                    .bind(sqlx::types::Json(&ids))
                    .bind(MAX_PAGE_BYTES)
                    .bind(ids.len() as i64)
                    .fetch_all(&self.pool)
                    .await
                    .and_then(|rows| rows.iter().map(placed).collect())
                    .map_err(|error| failure("reading credentials", error))
            }

            async fn data_key_lives(&self) -> Result<Vec<DataKeyLife>> {
                sqlx::query(sql::DATA_KEY_LIVES)
                    .fetch_all(&self.pool)
                    .await
                    .and_then(|rows| rows.iter().filter_map(|row| data_key_life(row).transpose()).collect())
                    .map_err(|error| failure("reading the data keys' lives", error))
            }

            async fn master_key_lives(&self) -> Result<Vec<MasterKeyLife>> {
                sqlx::query(sql::MASTER_KEY_LIVES)
                    .fetch_all(&self.pool)
                    .await
                    .and_then(|rows| rows.iter().filter_map(|row| master_key_life(row).transpose()).collect())
                    .map_err(|error| failure("reading the master keys' lives", error))
            }

            async fn has_material(&self, key_column: &str) -> Result<bool> {
                sqlx::query_scalar::<_, i64>(sql::HAS_MATERIAL)
                    .bind(key_column)
                    .fetch_one(&self.pool)
                    .await
                    .map(|count| count > 0)
                    .map_err(|error| failure("looking for a data key's material", error))
            }

            async fn material_without_key(&self) -> Result<Vec<String>> {
                sqlx::query_scalar::<_, Text>(sql::MATERIAL_WITHOUT_KEY)
                    .fetch_all(&self.pool)
                    .await
                    .map(|keys| keys.into_iter().map(String::from).collect())
                    .map_err(|error| failure("looking for material without a data key", error))
            }

            async fn without_integration(&self, limit: u32) -> Result<Orphans> {
                let say = |error| failure("looking for credentials without an integration", error);
                let rows = sqlx::query(sql::WITHOUT_INTEGRATION)
                    .bind(i64::from(limit))
                    .fetch_all(&self.pool)
                    .await
                    .map_err(say)?;
                let mut orphans = Orphans::default();
                for row in &rows {
                    orphans.first.push(row.try_get::<Id, _>(0).map_err(say)?.into());
                    orphans.count = row.try_get::<i64, _>(1).map_err(say)?.cast_unsigned();
                }
                Ok(orphans)
            }

            async fn quarantined_without_row(&self) -> Result<Vec<IntegrationId>> {
                sqlx::query_scalar::<_, Id>(sql::QUARANTINED_WITHOUT_ROW)
                    .fetch_all(&self.pool)
                    .await
                    .map(|ids| ids.into_iter().map(IntegrationId::from).collect())
                    .map_err(|error| failure("looking for rows in quarantine that are gone", error))
            }
        }
    };
}
pub(super) use inspection_store;
