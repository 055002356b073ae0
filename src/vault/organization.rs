//! One organization's credentials: every call here carries whose they are.

use std::fmt;

use tracing::{Instrument, Span, debug_span};
use uuid::Uuid;

use super::Vault;
use crate::credential::{Credential, Revision, Stored, Summary, checked_connector};
use crate::crypto::key::SealingKey;
use crate::envelope::{Nonce, RowContext, key_of, open_credential, seal_credential};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntegrationId, OrganizationId};
use crate::limit::within;
use crate::store::{Connection, CredentialRow, On, SealedRow};

/// How often a call that lost a race is made again before it says so.
pub(super) const ATTEMPTS: usize = 3;

/// The credentials of one organization: from [`Vault::organization`], cheap to clone.
///
/// Calls may be dropped at any await: what was written stands whole, or not at all, and no connection is left in a
/// transaction. A call that takes longer than the vault's [limit](super::VaultBuilder::call_limit) is dropped so, and is a
/// retryable `Store`; not `put_in` and `update_in`, which take as long as the caller's connection.
#[derive(Clone)]
pub struct Organization {
    vault: Vault,
    id: OrganizationId,
}

/// What a write expects to find.
#[derive(Clone, Copy)]
enum Expected<'r> {
    Anything,
    Revision(&'r Revision),
}

impl Organization {
    pub(super) fn new(vault: Vault, id: OrganizationId) -> Self {
        Self { vault, id }
    }

    /// The organization's id.
    #[must_use]
    pub fn id(&self) -> OrganizationId {
        self.id
    }

    /// Stores a credential in place of the one before it, whatever that is, and gives its revision. One statement.
    ///
    /// It is sealed under the active data key of the organization's scope; the statement itself checks that.
    ///
    /// # Errors
    ///
    /// `InvalidInput` beyond the documented limits (see [the format](crate::manual::format)), before anything is sealed;
    /// `NotFound` unless the integration is the organization's; `KeyUnavailable` if a key is missing, or (retryable) if
    /// the active data key kept changing; `KeyMismatch` or `Tampered` if a key's record doesn't hold; `Store` if the
    /// database fails, after which the credential may or may not have been stored.
    pub async fn put(
        &self,
        integration: impl Into<IntegrationId>,
        credential: &Credential,
    ) -> Result<Revision> {
        self.limited(self.write(On::Pool, integration.into(), credential, Expected::Anything)).await
    }

    /// [`put`](Self::put) on the caller's connection, inside the caller's transaction: `&mut PgConnection` or
    /// `&mut SqliteConnection`, no other connection is used.
    ///
    /// On SQLite begin the transaction with `BEGIN IMMEDIATE`. In PostgreSQL's repeatable read a data key that was
    /// switched meanwhile is a retryable error: begin a new transaction.
    ///
    /// ```no_run
    /// # #[cfg(feature = "postgres")]
    /// # async fn example(pool: sqlx::PgPool, vault: credvault::Vault, organization_id: uuid::Uuid,
    /// #     credential: credvault::Credential) -> Result<(), Box<dyn std::error::Error>> {
    /// let integration_id = uuid::Uuid::new_v4();
    /// let mut transaction = pool.begin().await?;
    /// // … INSERT INTO integrations … with `integration_id`, on the same transaction …
    /// vault.organization(organization_id).put_in(&mut *transaction, integration_id, &credential).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put); `InvalidInput` for a connection to the other kind of database.
    pub async fn put_in<'c>(
        &self,
        connection: impl Into<Connection<'c>>,
        integration: impl Into<IntegrationId>,
        credential: &Credential,
    ) -> Result<Revision> {
        self.write(On::Caller(connection.into()), integration.into(), credential, Expected::Anything).await
    }

    /// Replaces a credential if it is still of the given revision. One statement.
    ///
    /// # Errors
    ///
    /// `Conflict` if it changed, was re-encrypted or was deleted since: get it again; else as [`put`](Self::put).
    pub async fn update(
        &self,
        integration: impl Into<IntegrationId>,
        revision: &Revision,
        credential: &Credential,
    ) -> Result<Revision> {
        self.limited(self.write(On::Pool, integration.into(), credential, Expected::Revision(revision))).await
    }

    /// [`update`](Self::update) on the caller's connection, as [`put_in`](Self::put_in).
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); `InvalidInput` for a connection to the other kind of database.
    pub async fn update_in<'c>(
        &self,
        connection: impl Into<Connection<'c>>,
        integration: impl Into<IntegrationId>,
        revision: &Revision,
        credential: &Credential,
    ) -> Result<Revision> {
        let on = On::Caller(connection.into());
        self.write(on, integration.into(), credential, Expected::Revision(revision)).await
    }

    /// A call, as long as it may take.
    async fn limited<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        within(self.vault.0.call_limit, call).await
    }

    /// The span of a call: ids only.
    fn span(&self, call: &'static str, integration: IntegrationId) -> Span {
        debug_span!("credential", call, organization = %self.id, %integration)
    }

    async fn write(
        &self,
        on: On<'_>,
        integration: IntegrationId,
        credential: &Credential,
        expected: Expected<'_>,
    ) -> Result<Revision> {
        let call = match expected {
            Expected::Anything => "put",
            Expected::Revision(_) => "update",
        };
        self.write_guarded(on, integration, credential, expected)
            .instrument(self.span(call, integration))
            .await
    }

    async fn write_guarded(
        &self,
        mut on: On<'_>,
        integration: IntegrationId,
        credential: &Credential,
        expected: Expected<'_>,
    ) -> Result<Revision> {
        let (store, keyring) = (&self.vault.0.store, &self.vault.0.keyring);
        let mut key = keyring.sealing_key(on.reborrow(), self.id).await?;
        for _ in 0..ATTEMPTS {
            let row = seal(&key, self.id, integration, credential)?;
            let written = match expected {
                Expected::Anything => store.put(on.reborrow(), &row).await,
                Expected::Revision(revision) => store.update(on.reborrow(), &row, revision.as_str()).await,
            };
            match written {
                Ok(true) => return Ok(Revision::of(&row.stored)),
                Ok(false) => {}
                Err(error) => return Err(error.within(format_args!("integration {integration}"))),
            }
            let guard = store.guard(on.reborrow(), self.id, integration).await?;
            let guard = guard.ok_or_else(|| not_found(integration, self.id))?;
            if let Expected::Revision(expected) = expected
                && !guard.revision.as_deref().is_some_and(|stored| stored.starts_with(expected.as_str()))
            {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!(
                        "integration {integration}: its credential changed since it was read; get it again"
                    ),
                ));
            }
            if guard.active_key != Some(key.id()) {
                key = keyring.reload_sealing_key(on.reborrow(), self.id).await?;
            }
        }
        Err(Error::new(
            ErrorKind::KeyUnavailable,
            format!("integration {integration}: the active data key changed while it was written; try again"),
        )
        .retryable())
    }

    /// The credential of an integration, or `None` if the organization has none there. One statement; one more for a
    /// legacy row, whose organization nothing but the database says.
    ///
    /// # Errors
    ///
    /// `Tampered` or `Malformed` if the stored value isn't as it was written; `Unsupported` if a newer version wrote it;
    /// `KeyUnavailable` if its key is gone, or is the legacy key and isn't registered; `KeyMismatch` if its master key
    /// is another; `Conflict` if it kept changing while it was read; `Store` if the database fails.
    pub async fn get(&self, integration: impl Into<IntegrationId>) -> Result<Option<Stored>> {
        let integration = integration.into();
        self.limited(self.read(integration).instrument(self.span("get", integration))).await
    }

    async fn read(&self, integration: IntegrationId) -> Result<Option<Stored>> {
        let store = &self.vault.0.store;
        let mut row = store.get(integration).await?;
        for _ in 0..ATTEMPTS {
            let Some(read) = row else { return Ok(None) };
            let error = match self.open(integration, &read).await {
                Ok(opened) => return Ok(opened),
                Err(error) => error,
            };
            // The cold path: another organization's row doesn't open, and for this caller there is none.
            if store.organization_of(integration).await? != Some(self.id) {
                return Ok(None);
            }
            // A transfer or a switch between the two reads looks like tampering: only a row that stands does not open.
            row = store.get(integration).await?;
            if row.as_ref().is_some_and(|row| row.stored == read.stored && row.key_column == read.key_column)
            {
                return Err(error);
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("integration {integration}: its credential kept changing while it was read"),
        ))
    }

    /// Opens a row; `None` for a legacy row of another organization, which nothing but this check keeps from opening.
    pub(super) async fn open(
        &self,
        integration: IntegrationId,
        row: &CredentialRow,
    ) -> Result<Option<Stored>> {
        let id = key_of(&row.stored, &row.key_column)?;
        if id.is_legacy() && self.vault.0.store.organization_of(integration).await? != Some(self.id) {
            return Ok(None);
        }
        let key = self.vault.0.keyring.opening_key(id).await?;
        let context =
            RowContext { organization: self.id, integration, credential_type: &row.credential_type };
        let credential = open_credential(&key, &context, &row.stored, row.expires_at)?;
        Ok(Some(Stored { credential, revision: Revision::of(&row.stored) }))
    }

    /// Deletes a credential; `false` if the organization has none there. One statement; nothing is opened.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn delete(&self, integration: impl Into<IntegrationId>) -> Result<bool> {
        let integration = integration.into();
        let deleted = self.vault.0.store.delete(self.id, integration);
        self.limited(deleted.instrument(self.span("delete", integration))).await
    }

    /// What the database says of a credential, or `None` if the organization has none there. One statement; nothing is
    /// opened.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn describe(&self, integration: impl Into<IntegrationId>) -> Result<Option<Summary>> {
        let integration = integration.into();
        let described = self.vault.0.store.describe(self.id, integration);
        self.limited(described.instrument(self.span("describe", integration))).await
    }

    /// What the database says of the organization's credentials, by connector. One statement; nothing is opened.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn list(&self) -> Result<Vec<Summary>> {
        let span = debug_span!("credentials", call = "list", organization = %self.id);
        self.limited(self.vault.0.store.list(self.id).instrument(span)).await
    }

    /// Stores a credential for the organization's integration with a connector, such as `github`; without one it is
    /// made in the same transaction: active, and of no user.
    ///
    /// For programs that don't keep integrations of their own.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless the connector is a name of 1 to 50 characters, none a control character; `Conflict` if the
    /// integration was made and deleted by others meanwhile; else as [`put`](Self::put).
    pub async fn put_by_connector(
        &self,
        connector: &str,
        credential: &Credential,
    ) -> Result<(IntegrationId, Revision)> {
        checked_connector(connector)?;
        self.limited(self.write_by_connector(connector, credential)).await
    }

    async fn write_by_connector(
        &self,
        connector: &str,
        credential: &Credential,
    ) -> Result<(IntegrationId, Revision)> {
        let (store, keyring) = (&self.vault.0.store, &self.vault.0.keyring);
        let mut key = keyring.sealing_key(On::Pool, self.id).await?;
        for _ in 0..ATTEMPTS {
            if let Some(integration) = store.integration_of(self.id, connector).await? {
                return Ok((integration, self.put(integration, credential).await?));
            }
            let integration = IntegrationId::from(Uuid::new_v4());
            let row = seal(&key, self.id, integration, credential)?;
            let span = self.span("put_by_connector", integration);
            if store.put_new(&row, Uuid::nil(), connector).instrument(span).await? {
                return Ok((integration, Revision::of(&row.stored)));
            }
            key = keyring.reload_sealing_key(On::Pool, self.id).await?;
        }
        Err(kept_changing(connector))
    }

    /// The organization's integration with a connector, such as `github`, or `None` if there is none.
    ///
    /// # Errors
    ///
    /// `Store` if the database fails.
    pub async fn integration(&self, connector: &str) -> Result<Option<IntegrationId>> {
        self.limited(self.vault.0.store.integration_of(self.id, connector)).await
    }

    /// The organization's integration with a connector, made if there is none: active, and of no user.
    ///
    /// For programs that don't keep integrations of their own; a service makes the row itself, and the credential in
    /// the same transaction with [`put_in`](Self::put_in).
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless the connector is a name of 1 to 50 characters, none a control character; `Conflict` if it
    /// was made and deleted by others meanwhile; `Store` if the database fails.
    pub async fn ensure_integration(&self, connector: &str) -> Result<IntegrationId> {
        checked_connector(connector)?;
        self.limited(self.find_or_make_integration(connector)).await
    }

    async fn find_or_make_integration(&self, connector: &str) -> Result<IntegrationId> {
        let store = &self.vault.0.store;
        for _ in 0..ATTEMPTS {
            if let Some(integration) = store.integration_of(self.id, connector).await? {
                return Ok(integration);
            }
            let integration = IntegrationId::from(Uuid::new_v4());
            if store.create_integration(integration, self.id, Uuid::nil(), connector).await? {
                return Ok(integration);
            }
        }
        Err(kept_changing(connector))
    }
}

#[cfg(feature = "bench")]
impl Vault {
    /// The stored text of a credential, and the key that it is under: a put without the database.
    pub(crate) async fn seal_for_bench(
        &self,
        organization: OrganizationId,
        integration: IntegrationId,
        credential: &Credential,
    ) -> Result<(String, String)> {
        let key = self.0.keyring.sealing_key(On::Pool, organization).await?;
        let row = seal(&key, organization, integration, credential)?;
        Ok((row.stored, row.key.to_string()))
    }
}

impl fmt::Debug for Organization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Organization").field(&self.id).finish()
    }
}

/// Seals a credential into the row that is written.
pub(super) fn seal(
    key: &SealingKey,
    organization: OrganizationId,
    integration: IntegrationId,
    credential: &Credential,
) -> Result<SealedRow> {
    let credential_type = credential.credential_type().as_str();
    let context = RowContext { organization, integration, credential_type };
    let stored = seal_credential(key, Nonce::draw()?, &context, credential)?;
    Ok(SealedRow {
        organization,
        integration,
        credential_type: credential_type.to_owned(),
        stored,
        key: key.id(),
        expires_at: credential.expiry()?,
    })
}

pub(super) fn not_found(integration: IntegrationId, organization: OrganizationId) -> Error {
    Error::new(
        ErrorKind::NotFound,
        format!("integration {integration} is not one of organization {organization}"),
    )
}

fn kept_changing(connector: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("the integration with {connector:?} was made and deleted meanwhile, again and again"),
    )
}
