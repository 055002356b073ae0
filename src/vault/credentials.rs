//! All credentials, one after the other.

use std::collections::VecDeque;
use std::fmt;

use super::Vault;
use super::organization::ATTEMPTS;
use crate::credential::Stored;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntegrationId, OrganizationId};
use crate::limit::{self, within};
use crate::store::{Range, Rows, ScannedRow};

/// Rows read at once, still sealed: of ordinary credentials some ten KiB, and of the largest what a page may take.
const PAGE_ROWS: u32 = 100;

/// A walk over credentials: from [`Vault::credentials`], one page of sealed rows and one opened credential in memory.
///
/// Services go on. Each credential is as it was when its page was read, and of those that are stored or deleted meanwhile
/// the walk may give some and not others.
///
/// ```no_run
/// # async fn example(vault: credvault::Vault) -> credvault::Result<()> {
/// let mut credentials = vault.credentials();
/// while let Some(entry) = credentials.next().await? {
///     match entry.stored {
///         Ok(stored) => println!("{}: {} fields", entry.integration_id, stored.credential.fields().len()),
///         Err(error) => println!("{}: {error}", entry.integration_id),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Credentials {
    vault: Vault,
    rows: Rows,
    /// What is left of the table; `None` after its last place.
    rest: Option<Range>,
    page: VecDeque<ScannedRow>,
}

/// One credential of a walk.
#[derive(Debug)]
#[non_exhaustive]
pub struct CredentialEntry {
    /// The organization that has the integration.
    pub organization_id: OrganizationId,
    /// The integration that has the credential.
    pub integration_id: IntegrationId,
    /// The integration's connector: `github`, `slack`, …
    pub connector: String,
    /// The credential, or why it doesn't open: as [`Organization::get`](super::Organization::get).
    pub stored: Result<Stored>,
}

impl Credentials {
    pub(super) fn new(vault: Vault) -> Self {
        Self { vault, rows: Rows::All, rest: Some(Range::ALL), page: VecDeque::new() }
    }

    /// Only the credentials of one organization.
    #[must_use]
    pub fn of(mut self, organization: impl Into<OrganizationId>) -> Self {
        self.rows = Rows::Of(organization.into());
        self
    }

    /// The next credential, or `None` after the last. May be dropped at any await, and called again.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails, `Provider` if a master key can't be had. What is wrong with one credential is in
    /// its entry.
    pub async fn next(&mut self) -> Result<Option<CredentialEntry>> {
        loop {
            if self.page.is_empty()
                && let Some(range) = self.rest
            {
                let page = self.vault.0.store.scan(self.rows, range, PAGE_ROWS);
                self.page = within(limit::TABLE, page).await?.into();
            }
            let Some(row) = self.page.front() else { return Ok(None) };
            let opened = within(self.vault.0.call_limit, open(&self.vault, row)).await?;
            let Some(row) = self.page.pop_front() else { return Ok(None) };
            self.rest = self.rest.and_then(|range| range.after(row.cursor));
            // One that was moved to another organization meanwhile is not one of this organization's.
            let opened = opened.filter(|(holder, _)| match self.rows {
                Rows::Of(organization) => *holder == organization,
                _ => true,
            });
            if let Some((organization_id, stored)) = opened {
                return Ok(Some(CredentialEntry {
                    organization_id,
                    integration_id: row.integration,
                    connector: row.connector,
                    stored,
                }));
            }
        }
    }
}

/// Opens a row, with the organization that has it; `None` if it is gone.
async fn open(vault: &Vault, row: &ScannedRow) -> Result<Option<(OrganizationId, Result<Stored>)>> {
    let integration = row.integration;
    match vault.organization(row.organization).open(integration, &row.row).await {
        Ok(Some(stored)) => return Ok(Some((row.organization, Ok(stored)))),
        Ok(None) => {}
        Err(error) if is_fatal(&error) => return Err(error),
        // It may have been moved, re-encrypted or deleted since the page was read.
        Err(_) => {}
    }
    for _ in 0..ATTEMPTS {
        let Some(organization) = vault.0.store.organization_of(integration).await? else { return Ok(None) };
        match vault.organization(organization).get(integration).await {
            Ok(Some(stored)) => return Ok(Some((organization, Ok(stored)))),
            Ok(None) if vault.0.store.get(integration).await?.is_none() => return Ok(None),
            Ok(None) => {}
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => return Ok(Some((organization, Err(error)))),
        }
    }
    let error = Error::new(
        ErrorKind::Conflict,
        format!("integration {integration}: it was moved again and again while its credential was read"),
    );
    Ok(Some((row.organization, Err(error))))
}

/// Whether an error is not the row's: no other row would fare better.
fn is_fatal(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Store | ErrorKind::Provider)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("vault", &self.vault)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}
