//! How a vault begins: identity, master key and first data key in one transaction, and the first data key active
//! only once it was read back and held to its key check.

use crate::crypto::key::DataKey;
use crate::envelope::{Nonce, WrapContext, wrap_key};
use crate::error::Result;
use crate::id::{MasterKeyId, VaultId};
use crate::provider::{MasterKeyProvider, ProviderContext};
use crate::store::{NewDataKey, NewMasterKey, NewVault, Store, WrappedKey};

/// Makes a vault, unless there is one; whoever loses the race goes on with the winner's.
///
/// # Errors
///
/// What the provider gives, and `Store`.
pub(super) async fn create_unless_there(store: &dyn Store, provider: &dyn MasterKeyProvider) -> Result<()> {
    if store.identity().await?.is_some() {
        return Ok(());
    }
    let vault = VaultId::from(uuid::Uuid::new_v4());
    let context = ProviderContext::new(vault, MasterKeyId::from(uuid::Uuid::now_v7()));
    let (master, record) = provider.create(&context).await?;
    let data_key = DataKey::generate(None)?;
    let wrap = WrapContext { vault, data_key: data_key.id(), organization: None };
    let text = wrap_key(&master, Nonce::draw()?, &wrap, &data_key)?;
    let vault = NewVault {
        vault,
        master_key: NewMasterKey {
            id: master.id(),
            organization: None,
            provider: provider.kind().to_owned(),
            provider_record: record.as_str().to_owned(),
            key_check: *master.key_check(vault).as_bytes(),
        },
        data_key: NewDataKey {
            id: data_key.id(),
            organization: None,
            key_check: *data_key.key_check(vault).as_bytes(),
            wrapped: WrappedKey { master_key: master.id(), text },
        },
    };
    store.initialize(&vault).await.map(drop)
}
