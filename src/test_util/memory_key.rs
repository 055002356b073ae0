//! A master key that is nowhere but in memory.

use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;

use crate::crypto::key::MasterKey;
use crate::crypto::key_bytes::KeyBytes;
use crate::error::{Error, ErrorKind, Result};
use crate::id::MasterKeyId;
use crate::provider::{MasterKeyProvider, ProviderContext, ProviderRecord};

/// A fresh master key in memory, gone with the test: as a key file with one key, without the file.
#[derive(Debug)]
pub struct MemoryKey {
    id: MasterKeyId,
    bytes: KeyBytes,
}

impl MemoryKey {
    /// A fresh key, as a vault's builder takes it.
    ///
    /// # Errors
    ///
    /// `Provider` if the random generator fails.
    pub fn generate() -> Result<Arc<Self>> {
        Ok(Arc::new(Self { id: MasterKeyId::from(Uuid::now_v7()), bytes: KeyBytes::generate()? }))
    }

    /// The key's id, which errors name.
    #[must_use]
    pub fn id(&self) -> MasterKeyId {
        self.id
    }

    fn key(&self) -> Result<MasterKey> {
        Ok(MasterKey::new(self.id, KeyBytes::copy_of(self.bytes.expose())?))
    }
}

#[async_trait]
impl MasterKeyProvider for MemoryKey {
    fn kind(&self) -> &'static str {
        "memory"
    }

    async fn create(&self, _context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        Ok((self.key()?, ProviderRecord::empty()))
    }

    async fn unlock(&self, _record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        if context.master_key_id != self.id {
            return Err(Error::new(
                ErrorKind::KeyUnavailable,
                format!("master key {} is not {}, the one in memory", context.master_key_id, self.id),
            ));
        }
        self.key()
    }
}
