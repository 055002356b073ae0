//! What a sealed value is bound to: its associated data.

use super::header::Header;
use crate::crypto::subkeys::{pae, with_pae};
use crate::id::{DataKeyId, IntegrationId, OrganizationId, VaultId};

/// The column that sealed rows stand in.
const COLUMN: &[u8] = b"integration_credentials.credential_data_encrypted";

/// The place of a credential: it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowContext<'a> {
    /// The caller's organization in get and put; in rotation and verification that of the joined integration.
    pub(crate) organization: OrganizationId,
    pub(crate) integration: IntegrationId,
    /// The text of the column `credential_type`.
    pub(crate) credential_type: &'a str,
}

impl RowContext<'_> {
    /// What `work` gives for the associated data.
    #[inline]
    pub(super) fn with_associated_data<T>(&self, header: &Header, work: impl FnOnce(&[u8]) -> T) -> T {
        let parts = [
            b"credvault/v1/row",
            &header.as_bytes()[..],
            COLUMN,
            self.organization.as_bytes(),
            self.integration.as_bytes(),
            self.credential_type.as_bytes(),
        ];
        with_pae(parts, work)
    }
}

/// The place of a wrapped data key: it unwraps nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WrapContext {
    pub(crate) vault: VaultId,
    pub(crate) data_key: DataKeyId,
    /// The only organization that the data key may seal for, or `None` for a shared key.
    pub(crate) organization: Option<OrganizationId>,
}

impl WrapContext {
    pub(super) fn associated_data(&self, header: &Header) -> Vec<u8> {
        pae([
            b"credvault/v1/data-key",
            header.as_bytes(),
            self.vault.as_bytes(),
            self.data_key.as_bytes(),
            self.organization.as_ref().map_or(&[][..], |id| id.as_bytes()),
        ])
    }
}
