//! The credentials under one data key, for a report of what is to be re-issued.

use std::collections::VecDeque;

use time::OffsetDateTime;

use super::Vault;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::id::{DataKeyId, IntegrationId, OrganizationId};
use crate::store::{Range, Rows, ScannedRow};

/// Rows read at once: a page of ordinary credentials is some hundred KiB.
const PAGE_ROWS: u32 = 500;

/// The credentials under one data key: from [`Keys::credentials_under`](super::Keys::credentials_under).
#[derive(Debug)]
pub struct CredentialsUnderKey {
    vault: Vault,
    rows: Rows,
    /// What is left of the table; `None` after its last place.
    rest: Option<Range>,
    page: VecDeque<ScannedRow>,
}

/// A credential under a data key; nothing is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CredentialUnderKey {
    /// The organization that has the integration.
    pub organization_id: OrganizationId,
    /// The integration that has the credential.
    pub integration_id: IntegrationId,
    /// The integration's connector: `github`, `slack`, …
    pub connector: String,
    /// `token`, `oauth2`, … as the column says.
    pub credential_type: String,
    /// When it expires, as the column says.
    pub expires_at: Option<OffsetDateTime>,
}

impl CredentialsUnderKey {
    pub(super) fn new(vault: Vault, key: DataKeyId) -> Self {
        Self { vault, rows: Rows::Under(key), rest: Some(Range::ALL), page: VecDeque::new() }
    }

    /// The next credential, or `None` after the last. Those that a rotation re-encrypts meanwhile may be left out: list
    /// them first.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn next(&mut self) -> Result<Option<CredentialUnderKey>> {
        if self.page.is_empty()
            && let Some(range) = self.rest
        {
            self.page = self.vault.0.store.scan(self.rows, range, PAGE_ROWS).await?.into();
            self.rest = self.page.back().and_then(|last| range.after(last.cursor));
        }
        Ok(self.page.pop_front().map(|row| CredentialUnderKey {
            organization_id: row.organization,
            integration_id: row.integration,
            connector: row.connector,
            credential_type: row.row.credential_type,
            expires_at: row.row.expires_at.map(Timestamp::to_offset_date_time),
        }))
    }
}
