//! An integration, and its credential, from one organization to another.

use super::Vault;
use super::organization::{ATTEMPTS, not_found, seal};
use crate::envelope::{RowContext, key_of, open_credential};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{IntegrationId, OrganizationId};
use crate::store::On;

/// [`Vault::transfer`].
pub(super) async fn transfer(
    vault: &Vault,
    integration: IntegrationId,
    from: OrganizationId,
    to: OrganizationId,
) -> Result<()> {
    let (store, keyring) = (&vault.0.store, &vault.0.keyring);
    for _ in 0..ATTEMPTS {
        let holder = store.organization_of(integration).await?;
        if holder.is_none_or(|holder| holder != from && holder != to) {
            return Err(not_found(integration, from));
        }
        let row = store.get(integration).await?.ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                format!("integration {integration} has no credential to transfer"),
            )
        })?;
        let id = key_of(&row.stored, &row.key_column)?;
        let key = keyring.opening_key(id).await?;
        let open_as = |organization| {
            let context = RowContext { organization, integration, credential_type: &row.credential_type };
            open_credential(&key, &context, &row.stored, row.expires_at)
        };
        // A transfer that was made already, and whose answer was lost, has nothing left to do. A legacy row is bound
        // to no organization: it opens as anyone's, and is sealed here.
        if holder == Some(to) && !id.is_legacy() && open_as(to).is_ok() {
            return Ok(());
        }
        let sealing_key = keyring.reload_sealing_key(On::Pool, to).await?;
        // Nothing is awaited while the credential is in the clear.
        let sealed =
            match open_as(from).and_then(|credential| seal(&sealing_key, to, integration, &credential)) {
                Ok(sealed) => sealed,
                Err(error) => {
                    // Another transfer between the two reads looks like tampering: only a row that stands is judged.
                    let now = store.get(integration).await?;
                    let stands = now.is_some_and(|now| now.stored == row.stored)
                        && store.organization_of(integration).await? == holder;
                    if stands {
                        return Err(error);
                    }
                    continue;
                }
            };
        if store.transfer(from, &sealed, &row.stored).await? {
            return Ok(());
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!("integration {integration}: its credential kept changing while it was transferred"),
    ))
}
