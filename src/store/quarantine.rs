//! The quarantine as an operator works on it: the trait, and the bodies that both dialects share.

use async_trait::async_trait;

use super::rows::{ListedRow, QuarantinedRow};
use crate::error::Result;

/// The table `vault_quarantine`, with the integrations that it names.
#[async_trait]
pub(crate) trait QuarantineStore {
    /// The rows in quarantine, the first that was put there first.
    async fn quarantine_list(&self) -> Result<Vec<ListedRow>>;

    /// Takes a row out of quarantine, unless it was put there with another text since; `false` if nothing was there.
    async fn release_listed(&self, listed: &QuarantinedRow) -> Result<bool>;
}

/// Implements [`QuarantineStore`] for a dialect's store, given its row type.
macro_rules! quarantine_store {
    ($store:ty, $row:ty) => {
        #[async_trait]
        impl QuarantineStore for $store {
            async fn quarantine_list(&self) -> Result<Vec<ListedRow>> {
                let listed = |row: $row| -> sqlx::Result<ListedRow> {
                    Ok(ListedRow {
                        row: QuarantinedRow {
                            integration: row.try_get::<Id, _>(0)?.into(),
                            reason: row.try_get(1)?,
                            stored_sha256: row.try_get::<Vec<u8>, _>(2)?.try_into().unwrap_or_default(),
                        },
                        since: row.try_get::<Time, _>(3)?.timestamp_or_epoch(),
                        organization: row.try_get::<Option<Id>, _>(4)?.map(OrganizationId::from),
                        connector: row.try_get::<Option<Text>, _>(5)?.map(String::from),
                    })
                };
                sqlx::query(sql::QUARANTINE_LIST)
                    .fetch_all(&self.pool)
                    .await
                    .and_then(|rows| rows.into_iter().map(listed).collect())
                    .map_err(|error| failure("listing the quarantine", error))
            }

            async fn release_listed(&self, listed: &QuarantinedRow) -> Result<bool> {
                sqlx::query(sql::RELEASE_LISTED)
                    .bind(Id::from(listed.integration))
                    .bind(listed.stored_sha256.as_slice())
                    .execute(&self.pool)
                    .await
                    .map(|done| done.rows_affected() == 1)
                    .map_err(|error| failure("taking a row out of quarantine", error))
            }
        }
    };
}
pub(super) use quarantine_store;
