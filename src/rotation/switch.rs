//! New data keys, and the switch to them.

use crate::clock::Clock;
use crate::crypto::key::DataKey;
use crate::envelope::{Nonce, WrapContext, wrap_key};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, OrganizationId};
use crate::keyring::{Keyring, active_master_key};
use crate::store::{Insertion, KeyState, NewDataKey, On, RunId, Store, Switch, WrappedKey};

/// Makes a data key for a scope, pre-active, and holds what was stored to its key check; one that is there already,
/// from a run that ended early, is taken instead. A run does so only as long as it has its lease.
///
/// # Errors
///
/// `LeaseLost` if another run has taken over; `KeyUnavailable`, `KeyMismatch` or `Tampered` if the master key or the stored key doesn't hold; `Store`.
pub(crate) async fn new_data_key(
    store: &dyn Store,
    keyring: &Keyring,
    organization: Option<OrganizationId>,
    run: Option<RunId>,
) -> Result<DataKeyId> {
    /// A rewrap may switch the master key between reading it and inserting the data key.
    const ATTEMPTS: usize = 3;
    for _ in 0..ATTEMPTS {
        let pre_active = store
            .data_keys()
            .await?
            .into_iter()
            .flatten()
            .find(|key| key.state == KeyState::PreActive && key.organization == organization);
        if let Some(key) = pre_active {
            keyring.unwrap(On::Pool, &key).await?;
            return Ok(key.id);
        }
        let active = active_master_key(store, organization).await?;
        let (master, _) = keyring.master_keys().get(store, On::Pool, active.id).await?;
        let key = DataKey::generate(organization)?;
        let wrap = WrapContext { vault: keyring.vault(), data_key: key.id(), organization };
        let row = NewDataKey {
            id: key.id(),
            organization,
            key_check: *key.key_check(keyring.vault()).as_bytes(),
            wrapped: WrappedKey {
                master_key: master.id(),
                text: wrap_key(&master, Nonce::draw()?, &wrap, &key)?,
            },
        };
        if store.insert_data_key(&row, run).await? == Insertion::Fenced {
            return Err(fenced(row.id));
        }
    }
    Err(Error::new(ErrorKind::Conflict, "the active master key kept changing while a data key was made"))
}

/// Makes a pre-active key the active one of its scope; its age counts from now, by `clock`. A run does so only as long as
/// it has its lease.
///
/// # Errors
///
/// `Conflict` if it is no longer pre-active; `LeaseLost` if another run has taken over; `Store` if the database fails.
pub(crate) async fn activate(
    store: &dyn Store,
    clock: &dyn Clock,
    id: DataKeyId,
    organization: Option<OrganizationId>,
    run: Option<RunId>,
) -> Result<()> {
    match store.switch_data_key(id, organization, clock.offset(), run).await? {
        Switch::Done => return Ok(()),
        Switch::Fenced => return Err(fenced(id)),
        Switch::NotPreActive => {}
    }
    // Another process may have finished the same key.
    match store.data_key(On::Pool, id).await? {
        Some(key) if key.state == KeyState::Active => Ok(()),
        _ => Err(Error::new(ErrorKind::Conflict, format!("data key {id} was switched by another process"))),
    }
}

/// Activates the keys that a process left pre-active when it ended early, each after it was unwrapped and checked;
/// gives them with their scopes. One of an organization whose own master key can't be had stays as it is.
///
/// # Errors
///
/// As [`new_data_key`].
pub(crate) async fn finish_pre_active(
    store: &dyn Store,
    keyring: &Keyring,
    clock: &dyn Clock,
    run: Option<RunId>,
) -> Result<Vec<(DataKeyId, Option<OrganizationId>)>> {
    let mut finished = Vec::new();
    for key in store.data_keys().await?.into_iter().flatten() {
        if key.state == KeyState::PreActive {
            match keyring.unwrap(On::Pool, &key).await {
                Err(error) if key.organization.is_some() && is_withheld(&error) => {
                    tracing::warn!(key = %key.id, %error, "a data key was left pre-active");
                    continue;
                }
                unwrapped => drop(unwrapped?),
            }
            activate(store, clock, key.id, key.organization, run).await?;
            finished.push((key.id, key.organization));
        }
    }
    Ok(finished)
}

/// Whether an error says that a master key can't be had, rather than that a data key's record is wrong.
fn is_withheld(error: &Error) -> bool {
    use ErrorKind::{KeyMismatch, KeyUnavailable, Provider, Refused};
    matches!(error.kind(), KeyMismatch | KeyUnavailable | Provider | Refused)
}

fn fenced(key: DataKeyId) -> Error {
    Error::new(
        ErrorKind::LeaseLost,
        format!("data key {key} was not made or switched to: another process has taken the lease"),
    )
}
