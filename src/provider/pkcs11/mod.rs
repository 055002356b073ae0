//! Master keys that a key of a PKCS#11 token encrypts: an HSM, a cloud's HSM, a smart card.

mod failure;
mod login;
mod module;
mod pin;
mod record;
mod token;
mod uri;

use std::sync::Arc;

use async_trait::async_trait;

use self::module::Module;
use self::record::Sealed;
use self::token::TokenKey;
use self::uri::Uri;
use super::{
    CachePeriod, KeyBytes, MasterKeyProvider, ProviderContext, ProviderRecord, in_background, service,
};
use crate::crypto::key::MasterKey;
use crate::error::{Error, ErrorKind, Result};

/// Master keys that an AES-256 key of a PKCS#11 token encrypts, by CKM_AES_GCM; the token's key never leaves it.
///
/// The vault draws the master key, the token encrypts it with the [context](ProviderContext::associated_data)
/// authenticated beside it, and the ciphertext is the provider record. So the token is asked once for each process and
/// [`CachePeriod`], and never sees a credential.
///
/// The key is said by a URI of RFC 7512:
///
/// ```text
/// pkcs11:token=vault;object=credvault?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/credvault/pin
/// ```
///
/// - The token by any of `token` (its label), `manufacturer`, `serial`, `model`, `slot-id`; the key by `object` (its
///   label), `id`, or both; `type=secret-key` may be said. If several match, all are refused.
/// - The module's library by `module-path`, an absolute path: it runs in the process, so nobody else may write it.
/// - The PIN by `pin-source`: a file (`file:/PATH`), which keeps the rules of a [`KeyFile`](super::KeyFile), one newline
///   at its end aside, or a variable (`env:NAME`). `pin-value` is refused: a secret is no part of a configuration.
///
/// A PIN that a token refused is not sent to it again by the same process, and none is sent when the token says that it
/// is the last try: no restart loop locks a token. The process stays logged in while it has other sessions with the token.
#[derive(Clone, Debug)]
pub struct Pkcs11 {
    uri: Arc<Uri>,
}

impl Pkcs11 {
    /// The key that `uri` says. Nothing is loaded or asked yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a URI that is none, has an attribute that isn't known here, or lacks one.
    pub fn from_uri(uri: &str) -> Result<Self> {
        Ok(Self { uri: Arc::new(Uri::read(uri)?) })
    }

    /// What the token answers, in a thread that may wait for it, asked again where that may help.
    async fn ask<T, F>(&self, question: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&Module, &Uri) -> Result<T> + Clone + Send + 'static,
    {
        service::asked(&self.uri.token.to_string(), || {
            let (uri, question) = (Arc::clone(&self.uri), question.clone());
            async move {
                let module = Module::at(&uri.module);
                let call = module.call()?;
                in_background(move || {
                    let _until_it_ends = call;
                    question(&module, &uri)
                })
                .await
            }
        })
        .await
    }
}

#[async_trait]
impl MasterKeyProvider for Pkcs11 {
    fn kind(&self) -> &'static str {
        "pkcs11"
    }

    /// A fresh key, encrypted by the token and decrypted again, so that none is used that the token wouldn't give back.
    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        let (id, context) = (context.master_key_id, context.associated_data());
        let make = move |module: &Module, uri: &Uri| {
            let key = KeyBytes::generate()?;
            let record = wrapped(module, uri, &key, &context)?;
            Ok((MasterKey::new(id, key), record))
        };
        self.ask(make).await
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        let id = context.master_key_id;
        let within = |error: Error| error.within(format_args!("record of master key {id}"));
        let sealed = Sealed::of_record(record).map_err(within)?;
        let context = context.associated_data();
        let key = self.ask(move |module, uri| unwrapped(module, uri, &sealed, &context)).await;
        key.map(|key| MasterKey::new(id, key)).map_err(within)
    }

    async fn wrap(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        let key = Arc::new(KeyBytes::copy_of(key.expose())?);
        let context = context.associated_data();
        self.ask(move |module, uri| wrapped(module, uri, &key, &context)).await
    }

    fn cache(&self) -> Option<CachePeriod> {
        Some(CachePeriod::default())
    }
}

/// `key` under the token's, if that is as it should be, and if the token gives the same key back.
fn wrapped(module: &Module, uri: &Uri, key: &KeyBytes, context: &[u8]) -> Result<ProviderRecord> {
    let token = TokenKey::find(module, uri)?;
    token.check()?;
    let sealed = token.encrypt(key, context)?;
    match token.decrypt(&sealed, context).map_err(|error| token.undecrypted(error)) {
        Ok(back) if back[..] == key.expose()[..] => sealed.to_record(),
        Err(error) if error.kind() != ErrorKind::Tampered => Err(error),
        _ => Err(Error::new(
            ErrorKind::Provider,
            format!(
                "{} of {} doesn't give back what it was given: nothing is kept under it",
                uri.key, uri.token
            ),
        )),
    }
}

/// The key that the token decrypts. Where the token may have failed rather than the record, another session is asked, once.
fn unwrapped(module: &Module, uri: &Uri, sealed: &Sealed, context: &[u8]) -> Result<KeyBytes> {
    let token = TokenKey::find(module, uri)?;
    let answer = match token.decrypt(sealed, context) {
        Err(error) if failure::is_doubtful(&error) => {
            drop(token);
            let token = TokenKey::find(module, uri)?;
            token.decrypt(sealed, context).map_err(|error| token.undecrypted(error))
        }
        answer => answer.map_err(|error| token.undecrypted(error)),
    };
    KeyBytes::copy_of(&answer?)
}
