//! The credentials under one data key, for a report of what is to be re-issued.

use std::collections::VecDeque;

use uuid::Uuid;

use super::Vault;
use crate::credential::Summary;
use crate::error::Result;
use crate::id::{DataKeyId, IntegrationId, OrganizationId};
use crate::limit::{self, within};

/// Summaries read at once: some ten KiB.
const PAGE_ROWS: u32 = 500;

/// The credentials under one data key: from [`Keys::credentials_under`](super::Keys::credentials_under).
#[derive(Debug)]
pub struct CredentialsUnderKey {
    vault: Vault,
    key: DataKeyId,
    /// Where the next page begins; `None` after the last place.
    from: Option<(OrganizationId, IntegrationId)>,
    page: VecDeque<Summary>,
}

impl CredentialsUnderKey {
    pub(super) fn new(vault: Vault, key: DataKeyId) -> Self {
        Self { vault, key, from: Some((Uuid::nil().into(), Uuid::nil().into())), page: VecDeque::new() }
    }

    /// The next credential, or `None` after the last. Those that a rotation re-encrypts meanwhile may be left out: list
    /// them first.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn next(&mut self) -> Result<Option<Summary>> {
        if self.page.is_empty()
            && let Some(from) = self.from
        {
            let page = self.vault.0.store.under(self.key, from, PAGE_ROWS);
            self.page = within(limit::TABLE, page).await?.into();
            self.from = self.page.back().and_then(place_after);
        }
        Ok(self.page.pop_front())
    }
}

/// The place right after a credential's; `None` after the last of all places.
fn place_after(last: &Summary) -> Option<(OrganizationId, IntegrationId)> {
    let next = |id: Uuid| id.as_u128().checked_add(1).map(Uuid::from_u128);
    let (organization, integration) = (last.organization_id, last.integration_id);
    match next(integration.into()) {
        Some(integration) => Some((organization, integration.into())),
        None => next(organization.into()).map(|organization| (organization.into(), Uuid::nil().into())),
    }
}
