//! Master keys that a key of Azure Key Vault, or of a managed HSM, wraps.

mod credentials;
mod failure;
mod key;
mod record;
mod transport;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use azure_core::Bytes;
use azure_security_keyvault_keys::models::{KeyClientWrapKeyOptions, KeyOperationResult};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use self::failure::Action;
use self::key::{Key, Version};
use self::record::Wrapped;
use self::transport::{Https, Peer};
use super::{
    CachePeriod, KeyBytes, MasterKeyProvider, ProviderContext, ProviderRecord, in_background, service,
};
use crate::crypto::key::MasterKey;
use crate::error::{Error, ErrorKind, Result};

/// Master keys that a key of Azure Key Vault, or of a managed HSM, wraps; that key never leaves Azure.
///
/// The vault draws the master key, Azure wraps it, and what it gives is the provider record. So Azure is asked once for each
/// process and [`CachePeriod`], and never sees a credential.
///
/// The key is `https://NAME.vault.azure.net/keys/KEY`, an RSA key, which wraps by RSA-OAEP-256; or
/// `https://NAME.managedhsm.azure.net/keys/KEY`, an oct-HSM key of 256 bits, which wraps by A256KW. The host alone decides
/// which: so no right to read the key is needed. With `/VERSION` at its end, that version wraps, and else the newest. What is
/// unwrapped is asked of the version that wrapped it, which the record says; vault and key are those that are given here,
/// whatever the record says.
///
/// Neither algorithm authenticates the [context](ProviderContext::associated_data) beside the key: a commitment in the record
/// does, keyed by the master key. It doesn't keep out who both writes the database and has an RSA key's public half: they can
/// plant a master key, as the [manual](crate::manual::providers::azure_kv#what-is-bound-and-what-is-not) says.
///
/// Who asks is said by the variables of Azure's own tools, in this order: a service principal (`AZURE_CLIENT_SECRET`, with
/// `AZURE_TENANT_ID` and `AZURE_CLIENT_ID`), a workload identity (`AZURE_FEDERATED_TOKEN_FILE`, with the same two), and else
/// the machine's managed identity, that of `AZURE_CLIENT_ID` if it is set. `HTTPS_PROXY` and `NO_PROXY` are heeded. Not in:
/// certificates, and what is for people (`az login`).
///
/// A call is made four times at most, 5 s each, where that may help: 22 s in all. What is ours of a key in plaintext is wiped;
/// the SDK's own buffers are not.
#[derive(Clone)]
pub struct AzureKv {
    key: Key,
    /// The one that wraps, in place of the newest.
    version: Option<Version>,
    client: Arc<OnceCell<KeyClient>>,
}

impl AzureKv {
    /// The key that `key` names. Nothing is read or asked yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it has none of the forms above.
    pub fn new(key: &str) -> Result<Self> {
        let (key, version) = Key::of_spec(key)?;
        Ok(Self { key, version, client: Arc::default() })
    }

    /// What the key makes of `value` at `version`, or its newest: with the version that answered, and asked again where that
    /// may help.
    async fn ask(
        &self,
        action: Action,
        version: Option<&Version>,
        value: &[u8],
    ) -> Result<(Version, Zeroizing<Vec<u8>>)> {
        let (body, version) = (self.body(value), version.map(|version| version.as_str().to_owned()));
        let named = |error: Error| error.within(self.call(action));
        let answer = service::asked(&format!("Azure Key Vault ({})", self.call(action)), || async {
            let client = self.client.get_or_try_init(|| self.client()).await.map_err(named)?;
            let (name, body) = (self.key.name(), body.clone().into());
            let answer = match action {
                Action::WrapKey => {
                    let options =
                        KeyClientWrapKeyOptions { key_version: version.clone(), ..Default::default() };
                    client.wrap_key(name, body, Some(options)).await
                }
                Action::UnwrapKey => {
                    client.unwrap_key(name, version.as_deref().unwrap_or_default(), body, None).await
                }
            };
            let answer = answer.and_then(|answer| answer.into_model());
            answer.map_err(|error| named(failure::explained(action, &self.key, &error)))
        })
        .await?;
        self.answered(version.as_deref(), answer).map_err(named)
    }

    /// What an error calls a call.
    fn call(&self, action: Action) -> String {
        format!("{action} on {}", self.key)
    }

    /// `{"alg":"…","value":"base64url"}`, written here so that it is wiped.
    fn body(&self, value: &[u8]) -> Bytes {
        let (before, after) = (format!(r#"{{"alg":"{}","value":""#, self.key.algorithm()), r#""}"#);
        let length = base64::encoded_len(value.len(), false).unwrap_or_default();
        let mut text = Zeroizing::new(String::with_capacity(before.len() + length + after.len()));
        text.push_str(&before);
        URL_SAFE_NO_PAD.encode_string(value, &mut text);
        text.push_str(after);
        Bytes::from_owner(text)
    }

    /// The client, once there is need of one: reads the environment, files and the system's roots.
    async fn client(&self) -> Result<KeyClient> {
        let vault = self.key.vault();
        in_background(move || {
            let credential = credentials::of_environment()?;
            let client_options = credentials::options(Https::new(Peer::Vault, &vault)?);
            let options = KeyClientOptions { client_options, ..KeyClientOptions::default() };
            KeyClient::new(&vault, credential, Some(options)).map_err(|_| {
                Error::new(ErrorKind::Provider, "no client of Azure Key Vault could be made of the settings")
            })
        })
        .await
    }

    /// What an answer gives, if it is of the key, and the version, that was asked.
    fn answered(
        &self,
        asked: Option<&str>,
        mut answer: KeyOperationResult,
    ) -> Result<(Version, Zeroizing<Vec<u8>>)> {
        let result = answer.result.take().map(Zeroizing::new);
        let (Some((key, version)), Some(result)) = (answer.kid.as_deref().and_then(Key::of_id), result)
        else {
            return Err(Error::new(
                ErrorKind::Provider,
                "Azure Key Vault gave an answer without what was asked for",
            ));
        };
        if !key.is(&self.key) || asked.is_some_and(|asked| asked != version.as_str()) {
            return Err(Error::new(
                ErrorKind::Provider,
                format!("Azure Key Vault answered for {}", key.id(&version)),
            ));
        }
        Ok((version, result))
    }

    async fn wrapped(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        let (version, ciphertext) = self.ask(Action::WrapKey, self.version.as_ref(), key.expose()).await?;
        Wrapped::new(self.key.clone(), version, ciphertext.to_vec(), key, &context.associated_data())
            .and_then(|wrapped| wrapped.to_record())
            .map_err(|error| error.within(self.call(Action::WrapKey)))
    }

    async fn unwrapped(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<KeyBytes> {
        let wrapped = Wrapped::of_record(record)?;
        if !wrapped.key.is(&self.key) {
            return Err(Error::new(
                ErrorKind::KeyUnavailable,
                format!("it is wrapped by {}, and given is {}", wrapped.key, self.key),
            ));
        }
        let (_, plaintext) = self.ask(Action::UnwrapKey, Some(&wrapped.version), &wrapped.ciphertext).await?;
        let tampered =
            |what: &str| Error::new(ErrorKind::Tampered, what).within(self.call(Action::UnwrapKey));
        let key = KeyBytes::copy_of(&plaintext).map_err(|_| tampered("what is wrapped is no master key"))?;
        if !wrapped.is_of(&key, &context.associated_data()) {
            return Err(tampered(
                "the record was altered, wrapped by somebody else, or is of another vault, master key or organization",
            ));
        }
        Ok(key)
    }
}

impl fmt::Debug for AzureKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureKv")
            .field("key", &self.key)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl MasterKeyProvider for AzureKv {
    fn kind(&self) -> &'static str {
        "azure-kv"
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        let key = KeyBytes::generate()?;
        let record = self.wrapped(&key, context).await?;
        Ok((MasterKey::new(context.master_key_id, key), record))
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        let id = context.master_key_id;
        match self.unwrapped(record, context).await {
            Ok(key) => Ok(MasterKey::new(id, key)),
            Err(error) => Err(error.within(format_args!("record of master key {id}"))),
        }
    }

    async fn wrap(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        self.wrapped(key, context).await
    }

    fn cache(&self) -> Option<CachePeriod> {
        Some(CachePeriod::default())
    }
}
