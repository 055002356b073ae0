//! The credentials' rows and their integrations: the trait, and the bodies that both dialects share.

use async_trait::async_trait;
use uuid::Uuid;

use super::On;
use super::rows::{CredentialRow, Guard, QuarantinedRow, SealedRow};
use crate::clock::Timestamp;
use crate::credential::Summary;
use crate::error::Result;
use crate::id::{DataKeyId, IntegrationId, OrganizationId};

/// The tables `integration_credentials`, `integrations` and `vault_quarantine`.
#[async_trait]
pub(crate) trait CredentialStore {
    /// Inserts or replaces the credential if the integration is the organization's and the key is the active one of
    /// its scope; `false` if nothing was written. One statement.
    async fn put(&self, on: On<'_>, row: &SealedRow) -> Result<bool>;

    /// Replaces the credential if, besides, its stored text begins with `revision`. One statement.
    async fn update(&self, on: On<'_>, row: &SealedRow, revision: &str) -> Result<bool>;

    /// What the guards of a write compare, for the message about one that wrote nothing; `None` unless the
    /// integration is the organization's.
    async fn guard(
        &self,
        on: On<'_>,
        organization: OrganizationId,
        integration: IntegrationId,
    ) -> Result<Option<Guard>>;

    /// Reads a credential's row, whoever the integration belongs to. One statement.
    async fn get(&self, integration: IntegrationId) -> Result<Option<CredentialRow>>;

    /// The organization that has the integration.
    async fn organization_of(&self, integration: IntegrationId) -> Result<Option<OrganizationId>>;

    /// Deletes a credential; `false` if the organization has none there. One statement.
    async fn delete(&self, organization: OrganizationId, integration: IntegrationId) -> Result<bool>;

    /// One credential's summary. One statement.
    async fn describe(
        &self,
        organization: OrganizationId,
        integration: IntegrationId,
    ) -> Result<Option<Summary>>;

    /// The summaries of an organization's credentials, by connector. One statement.
    async fn list(&self, organization: OrganizationId) -> Result<Vec<Summary>>;

    /// The summaries of the first `limit` credentials that expire before a moment, soonest first. One statement.
    async fn expiring(&self, before: Timestamp, limit: u32) -> Result<Vec<Summary>>;

    /// The summaries of the credentials whose column names a key, by organization, from a place on, at most `limit`. One
    /// statement.
    async fn under(
        &self,
        key: DataKeyId,
        from: (OrganizationId, IntegrationId),
        limit: u32,
    ) -> Result<Vec<Summary>>;

    /// The organization's integration with a connector.
    async fn integration_of(
        &self,
        organization: OrganizationId,
        connector: &str,
    ) -> Result<Option<IntegrationId>>;

    /// Makes the organization's integration with a connector, unless there is one; `false` if there was.
    async fn create_integration(
        &self,
        integration: IntegrationId,
        organization: OrganizationId,
        user: Uuid,
        connector: &str,
    ) -> Result<bool>;

    /// Makes the integration of a row with a connector, and puts the row, in one transaction; `false`, and nothing
    /// written, if the organization has an integration with that connector, or where a put would write nothing.
    async fn put_new(&self, row: &SealedRow, user: Uuid, connector: &str) -> Result<bool>;

    /// Moves the integration from one organization to `row.organization` (already there is fine) and swaps its
    /// stored text from `old`, in one transaction; `false`, and nothing changed, where either didn't hold.
    async fn transfer(&self, from: OrganizationId, row: &SealedRow, old: &str) -> Result<bool>;

    /// Lists a row in quarantine, or says anew why.
    async fn quarantine(&self, row: &QuarantinedRow) -> Result<()>;

    /// The rows in quarantine.
    async fn quarantined(&self) -> Result<Vec<QuarantinedRow>>;

    /// Takes a row out of quarantine.
    async fn release(&self, integration: IntegrationId) -> Result<()>;
}

/// Implements [`CredentialStore`] for a dialect's store, given its row type; `begin` is the dialect's own.
macro_rules! credential_store {
    ($store:ty, $row:ty) => {
        fn summary(row: $row) -> sqlx::Result<Summary> {
            Ok(Summary {
                integration_id: row.try_get::<Id, _>(0)?.into(),
                organization_id: row.try_get::<Id, _>(1)?.into(),
                connector_type: row.try_get::<Text, _>(2)?.into(),
                credential_type: CredentialType::from_stored(row.try_get::<Text, _>(3)?.into()),
                key_id: row.try_get::<Text, _>(4)?.0.parse().ok(),
                expires_at: row
                    .try_get::<Option<Time>, _>(5)?
                    .and_then(Time::timestamp)
                    .map(Timestamp::to_offset_date_time),
                created_at: row.try_get::<Time, _>(6)?.timestamp_or_epoch().to_offset_date_time(),
                updated_at: row.try_get::<Time, _>(7)?.timestamp_or_epoch().to_offset_date_time(),
            })
        }

        /// The credential in a row that ends in its columns. By their places: names would cost a get four hashes and
        /// look-ups.
        fn credential_row(row: &$row) -> sqlx::Result<CredentialRow> {
            let first = row.len().saturating_sub(4);
            Ok(CredentialRow {
                credential_type: row.try_get::<Text, _>(first)?.into(),
                stored: row.try_get::<Text, _>(first + 1)?.into(),
                key_column: row.try_get::<Text, _>(first + 2)?.into(),
                expires_at: row.try_get::<Option<Time>, _>(first + 3)?.and_then(Time::timestamp),
            })
        }

        async fn write_credential(connection: &mut Conn, row: &SealedRow) -> sqlx::Result<bool> {
            sqlx::query(sql::PUT)
                .bind(Id(Uuid::new_v4()))
                .bind(Id::from(row.integration))
                .bind(row.credential_type.as_str())
                .bind(row.stored.as_str())
                .bind(row.expires_at.map(Time::from))
                .bind(row.key.to_string())
                .bind(Id::from(row.organization))
                .execute(connection)
                .await
                .map(|done| done.rows_affected() == 1)
        }

        async fn write_integration(
            connection: &mut Conn,
            integration: IntegrationId,
            organization: OrganizationId,
            user: Uuid,
            connector: &str,
        ) -> sqlx::Result<bool> {
            sqlx::query(sql::CREATE_INTEGRATION)
                .bind(Id::from(integration))
                .bind(Id::from(organization))
                .bind(Id(user))
                .bind(connector)
                .execute(connection)
                .await
                .map(|done| done.rows_affected() == 1)
        }

        #[async_trait]
        impl CredentialStore for $store {
            async fn put(&self, on: On<'_>, row: &SealedRow) -> Result<bool> {
                const DOING: &str = "writing the credential";
                let mut connection = self.connection(DOING, on).await?;
                write_credential(&mut connection, row).await.map_err(|error| failure(DOING, error))
            }

            async fn update(&self, on: On<'_>, row: &SealedRow, revision: &str) -> Result<bool> {
                const DOING: &str = "updating the credential";
                let mut connection = self.connection(DOING, on).await?;
                let done = sqlx::query(sql::UPDATE)
                    .bind(Id::from(row.integration))
                    .bind(row.credential_type.as_str())
                    .bind(row.stored.as_str())
                    .bind(row.expires_at.map(Time::from))
                    .bind(row.key.to_string())
                    .bind(Id::from(row.organization))
                    .bind(revision)
                    .execute(&mut *connection)
                    .await
                    .map_err(|error| failure(DOING, error))?;
                Ok(done.rows_affected() == 1)
            }

            async fn guard(
                &self,
                on: On<'_>,
                organization: OrganizationId,
                integration: IntegrationId,
            ) -> Result<Option<Guard>> {
                const DOING: &str = "asking why the credential was not written";
                let guard = |row: $row| -> sqlx::Result<Guard> {
                    Ok(Guard {
                        active_key: row.try_get::<Option<String>, _>(0)?.and_then(|id| id.parse().ok()),
                        revision: row.try_get::<Option<Text>, _>(1)?.map(String::from),
                    })
                };
                let mut connection = self.connection(DOING, on).await?;
                sqlx::query(sql::GUARD)
                    .bind(Id::from(integration))
                    .bind(Id::from(organization))
                    .fetch_optional(&mut *connection)
                    .await
                    .and_then(|row| row.map(guard).transpose())
                    .map_err(|error| failure(DOING, error))
            }

            async fn get(&self, integration: IntegrationId) -> Result<Option<CredentialRow>> {
                sqlx::query(sql::GET)
                    .bind(Id::from(integration))
                    .fetch_optional(&self.pool)
                    .await
                    .and_then(|row| row.as_ref().map(credential_row).transpose())
                    .map_err(|error| failure("reading the credential", error))
            }

            async fn organization_of(&self, integration: IntegrationId) -> Result<Option<OrganizationId>> {
                sqlx::query_scalar::<_, Id>(sql::ORGANIZATION_OF)
                    .bind(Id::from(integration))
                    .fetch_optional(&self.pool)
                    .await
                    .map(|id| id.map(OrganizationId::from))
                    .map_err(|error| failure("reading the integration", error))
            }

            async fn delete(&self, organization: OrganizationId, integration: IntegrationId) -> Result<bool> {
                sqlx::query(sql::DELETE)
                    .bind(Id::from(integration))
                    .bind(Id::from(organization))
                    .execute(&self.pool)
                    .await
                    .map(|done| done.rows_affected() == 1)
                    .map_err(|error| failure("deleting the credential", error))
            }

            async fn describe(
                &self,
                organization: OrganizationId,
                integration: IntegrationId,
            ) -> Result<Option<Summary>> {
                sqlx::query(sql::DESCRIBE)
                    .bind(Id::from(integration))
                    .bind(Id::from(organization))
                    .fetch_optional(&self.pool)
                    .await
                    .and_then(|row| row.map(summary).transpose())
                    .map_err(|error| failure("describing the credential", error))
            }

            async fn list(&self, organization: OrganizationId) -> Result<Vec<Summary>> {
                sqlx::query(sql::LIST)
                    .bind(Id::from(organization))
                    .fetch_all(&self.pool)
                    .await
                    .and_then(|rows| rows.into_iter().map(summary).collect())
                    .map_err(|error| failure("listing the credentials", error))
            }

            async fn expiring(&self, before: Timestamp, limit: u32) -> Result<Vec<Summary>> {
                sqlx::query(sql::EXPIRING)
                    .bind(Time::from(before))
                    .bind(i64::from(limit))
                    .fetch_all(&self.pool)
                    .await
                    .and_then(|rows| rows.into_iter().map(summary).collect())
                    .map_err(|error| failure("listing the credentials that expire", error))
            }

            async fn under(
                &self,
                key: DataKeyId,
                (organization, integration): (OrganizationId, IntegrationId),
                limit: u32,
            ) -> Result<Vec<Summary>> {
                let statement = sqlx::query(sql::UNDER)
                    .bind(key.to_string())
                    .bind(Id::from(organization))
                    .bind(Id::from(integration))
                    .bind(i64::from(limit));
                read("listing the credentials under a key", &self.pool, sql::BEGIN_READ, statement, summary)
                    .await
            }

            async fn integration_of(
                &self,
                organization: OrganizationId,
                connector: &str,
            ) -> Result<Option<IntegrationId>> {
                sqlx::query_scalar::<_, Id>(sql::INTEGRATION_OF)
                    .bind(Id::from(organization))
                    .bind(connector)
                    .fetch_optional(&self.pool)
                    .await
                    .map(|id| id.map(IntegrationId::from))
                    .map_err(|error| failure("looking the integration up", error))
            }

            async fn create_integration(
                &self,
                integration: IntegrationId,
                organization: OrganizationId,
                user: Uuid,
                connector: &str,
            ) -> Result<bool> {
                const DOING: &str = "making the integration";
                let mut connection = self.connection(DOING, On::Pool).await?;
                write_integration(&mut connection, integration, organization, user, connector)
                    .await
                    .map_err(|error| failure(DOING, error))
            }

            async fn put_new(&self, row: &SealedRow, user: Uuid, connector: &str) -> Result<bool> {
                let (pool, row, connector) = (self.pool.clone(), row.clone(), connector.to_owned());
                to_the_end(async move {
                    let say = |error| failure("writing the integration and its credential", error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    let (integration, organization) = (row.integration, row.organization);
                    let both =
                        write_integration(&mut transaction, integration, organization, user, &connector)
                            .await
                            .map_err(say)?
                            && write_credential(&mut transaction, &row).await.map_err(say)?;
                    if both {
                        transaction.commit().await.map_err(say)?;
                    } else {
                        transaction.rollback().await.map_err(say)?;
                    }
                    Ok(both)
                })
                .await
            }

            async fn transfer(&self, from: OrganizationId, row: &SealedRow, old: &str) -> Result<bool> {
                const DOING: &str = "transferring the integration";
                let (pool, row, old) = (self.pool.clone(), row.clone(), old.to_owned());
                to_the_end(async move {
                    let say = |error| failure(DOING, error);
                    let mut transaction = begin(&pool).await.map_err(say)?;
                    let moved = sqlx::query(sql::MOVE_INTEGRATION)
                        .bind(Id::from(row.integration))
                        .bind(Id::from(row.organization))
                        .bind(Id::from(from))
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    let sealed = sqlx::query(sql::RESEAL)
                        .bind(Id::from(row.integration))
                        .bind(row.stored)
                        .bind(row.key.to_string())
                        .bind(old)
                        .execute(&mut *transaction)
                        .await
                        .map_err(say)?;
                    let both = moved.rows_affected() == 1 && sealed.rows_affected() == 1;
                    if both {
                        transaction.commit().await.map_err(say)?;
                    } else {
                        transaction.rollback().await.map_err(say)?;
                    }
                    Ok(both)
                })
                .await
            }

            async fn quarantine(&self, row: &QuarantinedRow) -> Result<()> {
                sqlx::query(sql::QUARANTINE)
                    .bind(Id::from(row.integration))
                    .bind(row.reason.as_str())
                    .bind(row.stored_sha256.as_slice())
                    .execute(&self.pool)
                    .await
                    .map(drop)
                    .map_err(|error| failure("listing a row in quarantine", error))
            }

            async fn quarantined(&self) -> Result<Vec<QuarantinedRow>> {
                let quarantined = |row: $row| -> sqlx::Result<QuarantinedRow> {
                    Ok(QuarantinedRow {
                        integration: row.try_get::<Id, _>(0)?.into(),
                        reason: row.try_get(1)?,
                        stored_sha256: row.try_get::<Vec<u8>, _>(2)?.try_into().unwrap_or_default(),
                    })
                };
                sqlx::query(sql::QUARANTINED)
                    .fetch_all(&self.pool)
                    .await
                    .and_then(|rows| rows.into_iter().map(quarantined).collect())
                    .map_err(|error| failure("reading the quarantine", error))
            }

            async fn release(&self, integration: IntegrationId) -> Result<()> {
                sqlx::query(sql::RELEASE)
                    .bind(Id::from(integration))
                    .execute(&self.pool)
                    .await
                    .map(drop)
                    .map_err(|error| failure("taking a row out of quarantine", error))
            }
        }
    };
}
pub(super) use credential_store;
