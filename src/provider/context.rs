//! Which key a provider is asked for, and what a key service binds its ciphertext to.

use crate::crypto::subkeys::pae;
use crate::id::{MasterKeyId, OrganizationId, VaultId};

/// Which key of which vault a provider is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderContext {
    /// The vault.
    pub vault_id: VaultId,
    /// The master key; drawn by the vault before `create`.
    pub master_key_id: MasterKeyId,
    /// The only organization whose data keys it wraps; none for the master key of all others.
    pub organization_id: Option<OrganizationId>,
}

impl ProviderContext {
    /// The vault's master key `master_key_id`, for all organizations.
    #[must_use]
    pub const fn new(vault_id: VaultId, master_key_id: MasterKeyId) -> Self {
        Self { vault_id, master_key_id, organization_id: None }
    }

    /// The same, for the data keys of one organization only.
    #[must_use]
    pub const fn for_organization(self, organization: Option<OrganizationId>) -> Self {
        Self { organization_id: organization, ..self }
    }

    /// The context as bytes, for a service that authenticates bytes beside a ciphertext (AAD):
    ///
    /// ```text
    /// PAE("credvault/v1/master-key", vault id 16, master-key id 16, organization id 16 or nothing)
    /// ```
    ///
    /// with PASETO's pre-authentication encoding, PAE: the count of the parts and the length of each before it, as
    /// 64-bit little-endian numbers.
    #[must_use]
    pub fn associated_data(&self) -> Vec<u8> {
        pae([
            b"credvault/v1/master-key",
            self.vault_id.as_bytes(),
            self.master_key_id.as_bytes(),
            self.organization_id.as_ref().map_or(&[][..], |id| id.as_bytes()),
        ])
    }

    /// The context as names and values, for a service that authenticates such pairs and shows them in its audit log:
    /// `credvault-vault`, `credvault-master-key` and, of an organization's key, `credvault-organization`, each a UUID.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![
            ("credvault-vault", self.vault_id.to_string()),
            ("credvault-master-key", self.master_key_id.to_string()),
        ];
        pairs.extend(self.organization_id.map(|id| ("credvault-organization", id.to_string())));
        pairs
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_part_of_a_context_is_bound() {
        let [one, two] = [1, 2].map(Uuid::from_u128);
        let context = ProviderContext::new(one.into(), two.into());
        let others = [
            ProviderContext::new(two.into(), two.into()),
            ProviderContext::new(one.into(), one.into()),
            context.for_organization(Some(one.into())),
        ];
        for other in others {
            assert_ne!(other.associated_data(), context.associated_data(), "{other:?}");
            assert_ne!(other.pairs(), context.pairs(), "{other:?}");
        }
        let bytes = context.associated_data();
        assert_eq!(bytes[..16], *b"\x04\0\0\0\0\0\0\0\x17\0\0\0\0\0\0\0");
        assert_eq!(bytes.len(), 8 + 4 * 8 + 23 + 2 * 16);
    }
}
