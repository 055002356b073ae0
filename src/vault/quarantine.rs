//! The quarantine: rows that a rotation could not open, and left as they are.

use time::OffsetDateTime;

use super::organization::ATTEMPTS;
use super::verify::is_of_the_process;
use super::{Finding, Problem, Vault};
use crate::crypto::key::SealingKey;
use crate::envelope::{Nonce, RowContext, key_of, reencrypt};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntegrationId, OrganizationId};
use crate::limit::{self, within};
use crate::rotation::sha256;
use crate::store::{CredentialRow, ListedRow, On, QuarantinedRow};

/// The rows that a rotation could not open: from [`Vault::quarantine`]. See
/// [the manual](crate::manual::rotation#rows-that-dont-open).
#[derive(Clone, Debug)]
pub struct Quarantine(Vault);

/// A credential in quarantine; nothing of it was opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuarantinedCredential {
    /// The integration that has it.
    pub integration_id: IntegrationId,
    /// The organization that has the integration; `None` if the integration is gone.
    pub organization_id: Option<OrganizationId>,
    /// The integration's connector; `None` if the integration is gone.
    pub connector: Option<String>,
    /// The kind of error that it gave: `tampered`, `key unavailable`, …
    pub reason: String,
    /// When it was put there as it was stored then.
    pub since: OffsetDateTime,
}

/// What another try of the rows in quarantine did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuarantineReport {
    /// Rows that open again, and were taken out: the next rotation re-encrypts them.
    pub released: u64,
    /// Entries that were taken out because their credential is gone.
    pub gone: u64,
    /// The rows that remain, each a [`Finding::Row`] that says why.
    pub remaining: Vec<Finding>,
}

/// What became of a row in quarantine.
enum Judgment {
    Opens,
    Gone,
    Remains(Problem),
}

impl Quarantine {
    pub(super) fn new(vault: Vault) -> Self {
        Self(vault)
    }

    /// The credentials in quarantine as the last rotation or [`retry`](Self::retry) left them, the longest there first.
    /// One that was stored anew since is among them. Nothing is opened.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn list(&self) -> Result<Vec<QuarantinedCredential>> {
        let listed = |listed: ListedRow| QuarantinedCredential {
            integration_id: listed.row.integration,
            organization_id: listed.organization,
            connector: listed.connector,
            reason: listed.row.reason,
            since: listed.since.to_offset_date_time(),
        };
        let list = within(limit::TABLE, self.0.0.store.quarantine_list()).await?;
        Ok(list.into_iter().map(listed).collect())
    }

    /// Tries each row in quarantine again, as a rotation would, and takes out those that open, and those that are gone.
    /// No credential is written: the next rotation re-encrypts what was taken out.
    ///
    /// Harmless at any time, beside a rotation, too.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` or `KeyMismatch` if a master key that is needed is missing or another: a process that lacks one
    /// judges no row; `Provider` if a master key can't be had; `NotInitialized` if no key is active; `Store` if the
    /// database fails. Rows that were taken out before that are out.
    #[tracing::instrument(skip_all, err(level = "debug"))]
    pub async fn retry(&self) -> Result<QuarantineReport> {
        let (store, keyring) = (&self.0.0.store, &self.0.0.keyring);
        within(limit::TABLE, keyring.master_keys().unlock_all(store.as_ref())).await?;
        let mut report = QuarantineReport { released: 0, gone: 0, remaining: Vec::new() };
        for listed in within(limit::TABLE, store.quarantine_list()).await? {
            let integration = listed.row.integration;
            match within(self.0.0.call_limit, self.judge(integration)).await? {
                Judgment::Opens => report.released += self.release(&listed.row).await?,
                Judgment::Gone => report.gone += self.release(&listed.row).await?,
                Judgment::Remains(problem) => report.remaining.push(Finding::Row { integration, problem }),
            }
        }
        Ok(report)
    }

    /// Takes a row out; 1 if it still was as it is listed.
    async fn release(&self, row: &QuarantinedRow) -> Result<u64> {
        within(self.0.0.call_limit, self.0.0.store.release_listed(row)).await.map(u64::from)
    }

    /// Tries a row; one that remains is listed as it stands now.
    async fn judge(&self, integration: IntegrationId) -> Result<Judgment> {
        let (store, keyring) = (&self.0.0.store, &self.0.0.keyring);
        for _ in 0..ATTEMPTS {
            let organization = store.organization_of(integration).await?;
            let row = store.get(integration).await?;
            let Some((organization, row)) = organization.zip(row) else { return Ok(Judgment::Gone) };
            // A process that lacks the key to seal under is at fault, not the row.
            let to = match keyring.sealing_key(On::Pool, organization).await {
                Ok(to) => to,
                // Nor is it judged while its organization withholds its master key.
                Err(error) => {
                    return match keyring.master_keys().withheld(store.as_ref()).await?.remove(&organization) {
                        Some(withheld) => Ok(Judgment::Remains(withheld.into())),
                        None => Err(error),
                    };
                }
            };
            let error = match self.reencrypt(integration, organization, &row, &to).await {
                Ok(()) => return Ok(Judgment::Opens),
                Err(error) if is_of_the_process(&error) => return Err(error),
                Err(error) => error,
            };
            // Likewise one that lacks a master key since a rewrap.
            if matches!(error.kind(), ErrorKind::KeyUnavailable | ErrorKind::KeyMismatch) {
                keyring.master_keys().unlock_all(store.as_ref()).await?;
            }
            // A write or a transfer between the two reads looks like tampering: only a row that stands is judged.
            let now = store.get(integration).await?;
            let stands = now.is_some_and(|now| now.stored == row.stored)
                && store.organization_of(integration).await? == Some(organization);
            if stands {
                let reason = error.kind().to_string();
                let row = QuarantinedRow { integration, reason, stored_sha256: sha256(&row.stored) };
                store.quarantine(&row).await?;
                return Ok(Judgment::Remains(Problem::of_row(integration, &error)));
            }
        }
        let error = Error::new(ErrorKind::Conflict, "it kept changing while it was tried");
        Ok(Judgment::Remains(error.into()))
    }

    /// Does in memory what a rotation does: a legacy value may open and yet be beyond what the vault seals.
    async fn reencrypt(
        &self,
        integration: IntegrationId,
        organization: OrganizationId,
        row: &CredentialRow,
        to: &SealingKey,
    ) -> Result<()> {
        let from = self.0.0.keyring.opening_key(key_of(&row.stored, &row.key_column)?).await?;
        let context = RowContext { organization, integration, credential_type: &row.credential_type };
        reencrypt(&from, to, Nonce::draw()?, &context, &row.stored, row.expires_at).map(drop)
    }
}
