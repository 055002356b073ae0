//! What the benches measure inside the library; no part of its API.

use uuid::Uuid;

use crate::credential::{Credential, CredentialType};
use crate::crypto::key::{DataKey, OpeningKey, SealingKey};
use crate::envelope::{Nonce, RowContext, open_credential, reencrypt, seal_credential};
use crate::error::Result;
use crate::vault::Vault;

/// The statement of a put on PostgreSQL, with its checks.
pub const POSTGRES_PUT: &str = crate::store::postgres::PUT_STATEMENT;

/// A data key and a row's place to seal to.
#[derive(Debug)]
pub struct Sealer {
    key: SealingKey,
    opening: OpeningKey,
}

impl Sealer {
    /// Bytes of a row's associated data with the type `token`.
    pub const ASSOCIATED_DATA_BYTES: usize = 8 + 6 * 8 + 16 + 44 + 49 + 16 + 16 + 5;

    /// A fresh key.
    ///
    /// # Errors
    ///
    /// `Provider` if the random generator fails.
    pub fn new() -> Result<Self> {
        let key = DataKey::generate(None)?.into_sealing()?;
        Ok(Self { opening: key.opening(), key })
    }

    /// A credential with one field, whose payload has `bytes` bytes before padding.
    #[must_use]
    pub fn credential(bytes: usize) -> Credential {
        let value = "x".repeat(bytes.saturating_sub(12 + 6 + "access_token".len()));
        Credential::new(CredentialType::token()).with_field("access_token", value)
    }

    /// Draws a nonce, as every seal does.
    ///
    /// # Errors
    ///
    /// `Provider` if the random generator fails.
    pub fn draw_nonce() -> Result<impl Sized> {
        Nonce::draw()
    }

    /// Draws a nonce and seals to text, as a put does.
    ///
    /// # Errors
    ///
    /// As sealing.
    pub fn seal(&self, credential: &Credential) -> Result<String> {
        seal_credential(&self.key, Nonce::draw()?, &place(), credential)
    }

    /// Opens a text, as a get does.
    ///
    /// # Errors
    ///
    /// As opening.
    pub fn open(&self, stored: &str) -> Result<Credential> {
        open_credential(&self.opening, &place(), stored, None)
    }

    /// Re-encrypts texts, as a page of a rotation is.
    ///
    /// # Errors
    ///
    /// As opening.
    pub fn reencrypt(&self, stored: &[String]) -> Result<Vec<String>> {
        let nonces = Nonce::draw_many(stored.len())?;
        let place = place();
        stored
            .iter()
            .zip(nonces)
            .map(|(stored, nonce)| reencrypt(&self.opening, &self.key, nonce, &place, stored, None))
            .collect()
    }
}

/// A row that a bench writes by itself, as a put would.
#[derive(Debug)]
pub struct SealedToken {
    /// Whose it is.
    pub organization: Uuid,
    /// Its integration.
    pub integration: Uuid,
    /// Its stored text.
    pub stored: String,
    /// Its column `encryption_key_id`.
    pub key: String,
}

/// Tokens of GitHub's shape, each of an organization of its own, sealed under the active key of the vault: what fills a
/// table faster than puts do.
///
/// # Errors
///
/// As a put.
pub async fn sealed_tokens(vault: &Vault, count: u32) -> Result<Vec<SealedToken>> {
    let mut rows = Vec::new();
    for number in 0..count {
        let (organization, integration) = (Uuid::new_v4(), Uuid::new_v4());
        let token =
            Credential::new(CredentialType::token()).with_field("access_token", format!("ghs_{number:036}"));
        let (stored, key) = vault.seal_for_bench(organization.into(), integration.into(), &token).await?;
        rows.push(SealedToken { organization, integration, stored, key });
    }
    Ok(rows)
}

fn place() -> RowContext<'static> {
    RowContext {
        organization: Uuid::from_u128(1).into(),
        integration: Uuid::from_u128(2).into(),
        credential_type: "token",
    }
}
