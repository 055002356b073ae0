//! Master keys that a key of Google Cloud KMS encrypts.

mod client;
mod credentials;
mod endpoint;
mod failure;
mod name;
mod record;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use crc::{CRC_32_ISCSI, Crc};
use google_cloud_kms_v1::client::KeyManagementService;
use google_cloud_kms_v1::model::{DecryptResponse, EncryptResponse};
use tokio::sync::OnceCell;
use zeroize::{Zeroize, Zeroizing};

use self::client::{guarded, untraced};
use self::endpoint::Endpoint;
use self::failure::{Action, altered_on_the_way};
use self::name::{KeyName, VersionName};
use self::record::Wrapped;
use super::{CachePeriod, KeyBytes, MasterKeyProvider, ProviderContext, ProviderRecord, service};
use crate::crypto::key::MasterKey;
use crate::error::{Error, ErrorKind, Result};

/// The checksum that KMS has in its messages: CRC32C, which iSCSI has, too.
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Master keys that a symmetric key of Google Cloud KMS encrypts; that key never leaves KMS.
///
/// The master key is drawn here and given to KMS to encrypt
/// ([cryptoKeys.encrypt](https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys/encrypt)),
/// with the [context](ProviderContext::associated_data) as additional authenticated data; the ciphertext is the provider
/// record. So KMS is asked once for each process and [`CachePeriod`], and never sees a credential. Each message's parts are
/// held to their checksums on both sides.
///
/// The key is `projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY`, not a version of it: KMS encrypts with the
/// key's primary version, and finds the version of a ciphertext by itself. Every call names this key and no other: the record
/// holds the version that KMS answered with, but who writes to the database can't choose with it what is called.
///
/// Credentials are the application's default ones, as Google's SDK finds them: the file that
/// `GOOGLE_APPLICATION_CREDENTIALS` names, `gcloud`'s, or the metadata server's. KMS is called at its public address, or at
/// what [`with_endpoint`](Self::with_endpoint) or the variable `CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS` says.
///
/// A call is made four times at most, 5 s each, where that may help: 22 s in all. What is ours of a key in plaintext is wiped;
/// the SDK's own buffers are not.
///
/// The SDK takes its cryptography from rustls' choice for the process. If there is none yet when a key is first asked for,
/// ring is chosen; an application that wants another one installs it before that.
#[derive(Clone)]
pub struct GcpKms {
    key: KeyName,
    endpoint: Option<Endpoint>,
}

impl GcpKms {
    /// The key of that name. Nothing is read or asked yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it has not the form above.
    pub fn new(key: &str) -> Result<Self> {
        Ok(Self { key: KeyName::read(key)?, endpoint: None })
    }

    /// The same key, where KMS is reached at `url`, as by Private Service Connect; then no variable is looked at.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless it is `https://HOST` or `https://HOST:PORT`; with `http` for this machine alone.
    pub fn with_endpoint(self, url: &str) -> Result<Self> {
        Ok(Self { endpoint: Some(Endpoint::read(url)?), ..self })
    }

    /// What KMS answers, asked again where that may help.
    async fn ask<T, F>(&self, action: Action, call: impl Fn(KeyManagementService) -> F + Sync) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let call = &call;
        // Kept from one attempt to the next, so that a slow token doesn't take each one's time. What fails isn't kept: the SDK
        // would give the same error for ten seconds, or for good.
        let client = &OnceCell::new();
        service::asked("Google Cloud KMS", || async move {
            let client: Result<&KeyManagementService> =
                client.get_or_try_init(|| guarded(client::client(self.endpoint.clone()))).await;
            let answer = match client {
                Ok(client) => untraced(call(client.clone())).await,
                Err(error) => Err(error),
            };
            answer.map_err(|error| error.within(format_args!("{action} on {}", self.key)))
        })
        .await
    }

    async fn wrapped(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        // Wiped when the last request is gone.
        let key = Bytes::from_owner(Zeroizing::new(key.expose().to_vec()));
        let bound = Bytes::from(context.associated_data());
        let wrapped = self
            .ask(Action::Encrypt, |client| {
                let request = client
                    .encrypt()
                    .set_name(self.key.as_str())
                    .set_plaintext(key.clone())
                    .set_plaintext_crc32c(checksum(&key))
                    .set_additional_authenticated_data(bound.clone())
                    .set_additional_authenticated_data_crc32c(checksum(&bound));
                async move {
                    let answer = request.send().await;
                    encrypted(answer.map_err(|error| failure::explained(Action::Encrypt, &error))?)
                }
            })
            .await?;
        if !wrapped.version.is_of(&self.key) {
            return Err(Error::new(
                ErrorKind::Provider,
                format!(
                    "Google Cloud KMS was to encrypt with {} and did so with {}: nothing is kept under it",
                    self.key, wrapped.version
                ),
            ));
        }
        wrapped.to_record()
    }

    async fn unwrapped(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<KeyBytes> {
        let wrapped = Wrapped::of_record(record)?;
        if !wrapped.version.is_of(&self.key) {
            return Err(Error::new(
                ErrorKind::KeyUnavailable,
                format!("it is encrypted with {}, and given is {}", wrapped.version.key(), self.key),
            ));
        }
        let (ciphertext, bound) = (Bytes::from(wrapped.ciphertext), Bytes::from(context.associated_data()));
        self.ask(Action::Decrypt, |client| {
            let request = client
                .decrypt()
                .set_name(self.key.as_str())
                .set_ciphertext(ciphertext.clone())
                .set_ciphertext_crc32c(checksum(&ciphertext))
                .set_additional_authenticated_data(bound.clone())
                .set_additional_authenticated_data_crc32c(checksum(&bound));
            async move {
                let answer = request.send().await;
                decrypted(answer.map_err(|error| failure::explained(Action::Decrypt, &error))?)
            }
        })
        .await
    }
}

impl fmt::Debug for GcpKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcpKms").field("key", &self.key).field("endpoint", &self.endpoint).finish()
    }
}

#[async_trait]
impl MasterKeyProvider for GcpKms {
    fn kind(&self) -> &'static str {
        "gcp-kms"
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

/// What KMS encrypted, if it got what was sent, and what it sent came.
fn encrypted(answer: EncryptResponse) -> Result<Wrapped> {
    if !answer.verified_plaintext_crc32c {
        return Err(altered_on_the_way("the key that was sent, which Google Cloud KMS didn't verify,"));
    }
    if !answer.verified_additional_authenticated_data_crc32c {
        return Err(altered_on_the_way("the context that was sent, which Google Cloud KMS didn't verify,"));
    }
    if answer.ciphertext_crc32c != Some(checksum(&answer.ciphertext)) {
        return Err(altered_on_the_way("the ciphertext that Google Cloud KMS gave"));
    }
    let version = VersionName::read(&answer.name).ok_or_else(|| {
        Error::new(
            ErrorKind::Provider,
            "Google Cloud KMS doesn't say which version of a key it encrypted with",
        )
    })?;
    Ok(Wrapped { version, ciphertext: answer.ciphertext.into() })
}

/// The key in an answer, which is wiped.
fn decrypted(mut answer: DecryptResponse) -> Result<KeyBytes> {
    let bytes = std::mem::take(&mut answer.plaintext);
    let key = if answer.plaintext_crc32c == Some(checksum(&bytes)) {
        KeyBytes::copy_of(&bytes).map_err(|_| {
            let what = format!("Google Cloud KMS gave {} bytes in place of a master key", bytes.len());
            Error::new(ErrorKind::Provider, what)
        })
    } else {
        Err(altered_on_the_way("the key that Google Cloud KMS gave"))
    };
    // Nothing else has it: it was made for this answer.
    if let Ok(mut bytes) = bytes.try_into_mut() {
        bytes.as_mut().zeroize();
    }
    key
}

/// CRC32C as KMS's messages have it, in 64 bits.
fn checksum(bytes: &[u8]) -> i64 {
    i64::from(CRC32C.checksum(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_that_of_rfc_3720() {
        // RFC 3720, B.4, whose bytes are in the order of the wire.
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa);
        assert_eq!(checksum(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
    }
}
