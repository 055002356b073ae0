//! Master keys that a key of AWS KMS encrypts.

mod client;
mod failure;
mod key;
mod record;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use tokio::sync::OnceCell;
use zeroize::Zeroizing;

use self::failure::Action;
use self::key::{Key, KeyArn};
use self::record::Wrapped;
use super::{CachePeriod, KeyBytes, MasterKeyProvider, ProviderContext, ProviderRecord, service};
use crate::crypto::key::MasterKey;
use crate::error::{Error, ErrorKind, Result};

/// Master keys that a symmetric key of AWS KMS encrypts; that key never leaves KMS.
///
/// KMS draws the master key ([GenerateDataKey](https://docs.aws.amazon.com/kms/latest/APIReference/API_GenerateDataKey.html))
/// and authenticates the [context](ProviderContext::pairs) as encryption context; the ciphertext is the provider record. So
/// KMS is asked once for each process and [`CachePeriod`], and never sees a credential.
///
/// The key is an ARN (`arn:aws:kms:REGION:ACCOUNT:key/ID`), an alias' ARN (`…:alias/NAME`) or `alias/NAME`. Every call names
/// this key and no other: the record holds the ARN that KMS answered with, but who writes to the database can't choose with
/// it what is called. When an alias is moved to another key, both are given, the one before by its ARN, until a rewrap.
///
/// Credentials, endpoint and region are those of the SDK for Rust: variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL_KMS`,
/// `AWS_REGION` …), profiles with `role_arn` or `credential_process`, web identity (EKS), container (ECS, EKS Pod Identity)
/// and instance metadata; the region of an ARN goes first. Not in: IAM Identity Center (`sso_…`) and `aws login`, which are
/// for people, and HTTPS proxies.
///
/// A call is made four times at most, 5 s each, where that may help: 22 s in all. What is ours of a key in plaintext is wiped;
/// the SDK's own buffers are not.
#[derive(Clone)]
pub struct AwsKms {
    key: Key,
    client: Arc<OnceCell<Client>>,
}

impl AwsKms {
    /// The key that `key` names. Nothing is read or asked yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it has none of the forms above.
    pub fn new(key: &str) -> Result<Self> {
        Ok(Self { key: Key::read(key)?, client: Arc::default() })
    }

    /// What KMS answers, asked again where that may help.
    async fn ask<T, E, F>(&self, action: Action, call: impl Fn(Client) -> F + Sync) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, SdkError<E, HttpResponse>>> + Send,
        E: ProvideErrorMetadata + StdError + 'static,
        SdkError<E, HttpResponse>: RequestId,
    {
        let call = &call;
        service::asked("AWS KMS", || async move {
            let client = self.client.get_or_try_init(|| client::client(&self.key)).await?;
            call(client.clone()).await.map_err(|error| failure::explained(action, &self.key, &error))
        })
        .await
    }

    /// What KMS encrypted, if it is with the key that it was asked to.
    fn wrapped(&self, key: Option<&str>, ciphertext: Option<Blob>) -> Result<ProviderRecord> {
        let (Some(arn), Some(ciphertext)) = (key.and_then(KeyArn::read), ciphertext) else {
            return Err(incomplete());
        };
        match &self.key {
            Key::Arn(ours) if !ours.is_same_key(&arn) => Err(Error::new(
                ErrorKind::Provider,
                format!("AWS KMS was to encrypt with {ours} and did so with {arn}: nothing is kept under it"),
            )),
            _ => Wrapped { key: arn, ciphertext: ciphertext.into_inner() }.to_record(),
        }
    }

    async fn unwrapped(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<KeyBytes> {
        let wrapped = Wrapped::of_record(record)?;
        if let Key::Arn(ours) = &self.key
            && !ours.is_same_key(&wrapped.key)
        {
            return Err(Error::new(
                ErrorKind::KeyUnavailable,
                format!("it is encrypted with {}, and given is {ours}", wrapped.key),
            ));
        }
        let (ciphertext, pairs) = (Blob::new(wrapped.ciphertext), pairs(context));
        let mut answer = self
            .ask(Action::Decrypt, |client| {
                client
                    .decrypt()
                    .key_id(self.key.as_str())
                    .ciphertext_blob(ciphertext.clone())
                    .set_encryption_context(Some(pairs.clone()))
                    .send()
            })
            .await?;
        let key = plaintext(answer.plaintext.take())?;
        match answer.key_id().and_then(KeyArn::read) {
            Some(arn) if arn.is_same_key(&wrapped.key) => Ok(key),
            Some(arn) => Err(Error::new(
                ErrorKind::Tampered,
                format!("it says that it is encrypted with {}, and is with {arn}", wrapped.key),
            )),
            None => Err(incomplete()),
        }
    }
}

impl fmt::Debug for AwsKms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsKms").field("key", &self.key).finish_non_exhaustive()
    }
}

#[async_trait]
impl MasterKeyProvider for AwsKms {
    fn kind(&self) -> &'static str {
        "aws-kms"
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        let pairs = pairs(context);
        let mut answer = self
            .ask(Action::GenerateDataKey, |client| {
                client
                    .generate_data_key()
                    .key_id(self.key.as_str())
                    .key_spec(DataKeySpec::Aes256)
                    .set_encryption_context(Some(pairs.clone()))
                    .send()
            })
            .await?;
        let key = plaintext(answer.plaintext.take())?;
        let ciphertext = answer.ciphertext_blob.take();
        let record = self.wrapped(answer.key_id(), ciphertext)?;
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
        let pairs = pairs(context);
        let mut answer = self
            .ask(Action::Encrypt, |client| {
                client
                    .encrypt()
                    .key_id(self.key.as_str())
                    .plaintext(Blob::new(key.expose()))
                    .set_encryption_context(Some(pairs.clone()))
                    .send()
            })
            .await?;
        let ciphertext = answer.ciphertext_blob.take();
        self.wrapped(answer.key_id(), ciphertext)
    }

    fn cache(&self) -> Option<CachePeriod> {
        Some(CachePeriod::default())
    }
}

fn pairs(context: &ProviderContext) -> HashMap<String, String> {
    context.pairs().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The key in an answer, which is wiped.
fn plaintext(blob: Option<Blob>) -> Result<KeyBytes> {
    let bytes = Zeroizing::new(blob.ok_or_else(incomplete)?.into_inner());
    KeyBytes::copy_of(&bytes).map_err(|_| {
        let what = format!("AWS KMS gave {} bytes in place of a master key", bytes.len());
        Error::new(ErrorKind::Provider, what)
    })
}

fn incomplete() -> Error {
    Error::new(ErrorKind::Provider, "AWS KMS gave an answer without what was asked for")
}
