//! Master keys that a key of a transit engine encrypts, of HashiCorp Vault or OpenBao.

mod failure;
mod key;
mod record;
mod server;
mod settings;
mod token;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use self::failure::Action;
use self::key::Key;
use self::record::{Ciphertext, Wrapped};
use self::server::{Answer, Server};
use self::token::{Given, Held, Tokens};
use super::{CachePeriod, KeyBytes, MasterKeyProvider, ProviderContext, ProviderRecord, service};
use crate::crypto::key::MasterKey;
use crate::crypto::key_bytes::KEY_BYTES;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::SecretText;

/// A key of [`KEY_BYTES`] in base64 with its padding, in characters.
const KEY_CHARS: usize = KEY_BYTES.div_ceil(3) * 4;

/// The most characters of a plaintext that are decoded, to say how many bytes there were in a key's place.
const MAX_PLAINTEXT_CHARS: usize = 4_096;

/// Master keys that a key of a transit engine encrypts, of HashiCorp Vault or OpenBao; that key never leaves the engine.
///
/// The vault draws the master key; the engine encrypts it with the [context](ProviderContext::associated_data), and the address
/// after it, as `associated_data`, and the ciphertext with that address is the provider record. So the engine is asked once for
/// each process and [`CachePeriod`], and never sees a credential. The same is given as `context`, too: keys with `derived=true`
/// need that, others don't look at it.
///
/// The key is `https://HOST[:PORT]/MOUNT/KEY`, where the mount may have several segments; `http` is for this machine alone.
/// Every call is to this address: the record holds the one that it was made at, as which it opens after the server has moved, but
/// who writes to the database can't choose with it what is called. A key that isn't there is never made, as far as the token may look.
///
/// The rest is the environment's, read at each call, `BAO_…` before `VAULT_…`:
///
/// - who asks, by one of `VAULT_TOKEN`, `VAULT_TOKEN_FILE`, `VAULT_ROLE_ID` with `VAULT_SECRET_ID` (AppRole; each with
///   `_FILE` in a file), or `VAULT_ROLE` (Kubernetes, with the token of the pod or of `VAULT_JWT_FILE`); else the file
///   `~/.vault-token`. Files keep the rules of a [`KeyFile`](super::KeyFile), except the pod's. `VAULT_AUTH_MOUNT` is the
///   path of the login, by default `approle` or `kubernetes`;
/// - `VAULT_NAMESPACE`;
/// - `VAULT_CACERT`, a PEM file of the only certificates that are trusted; else the operating system's are.
///
/// The token of a login is kept until it ends or is refused, and is then got anew, once; a token that can be renewed is,
/// when it is used and may not last. Nothing turns the check of certificates off, and neither a redirect nor a proxy is
/// followed.
///
/// A call is made four times at most, 5 s each, where that may help: 22 s in all, and as much for a login before it. What is
/// ours of a key in plaintext is wiped; the buffers of HTTP and TLS are not.
#[derive(Clone)]
pub struct VaultTransit {
    key: Arc<Key>,
    tokens: Arc<Tokens>,
}

impl VaultTransit {
    /// The key at `key`, `https://HOST[:PORT]/MOUNT/KEY`. Nothing is read or asked yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it has not that form.
    pub fn new(key: &str) -> Result<Self> {
        Ok(Self { key: Arc::new(Key::read(key)?), tokens: Arc::default() })
    }

    /// What the engine answers, asked again where that may help, with the token that it was asked with.
    async fn ask(
        &self,
        server: &Server,
        action: &Action<'_>,
        body: Option<&Zeroizing<String>>,
    ) -> Result<(Answer, Arc<Held>)> {
        let Given { held, is_of_an_earlier_login } = self.tokens.get(server).await?;
        match self.ask_with(server, action, body, &held).await {
            Err(error) if error.kind() == ErrorKind::Refused => {
                if !is_of_an_earlier_login {
                    return Err(error);
                }
                self.tokens.forget(&held).await;
                tracing::info!(key = %self.key, "the token is refused: logging in again");
                let held = self.tokens.get(server).await?.held;
                Ok((self.ask_with(server, action, body, &held).await?, held))
            }
            answer => Ok((answer?, held)),
        }
    }

    async fn ask_with(
        &self,
        server: &Server,
        action: &Action<'_>,
        body: Option<&Zeroizing<String>>,
        held: &Held,
    ) -> Result<Answer> {
        service::asked(self.key.origin(), || server.call(action, Some(&held.token), body)).await
    }

    /// The key that the engine makes of a record.
    async fn unwrapped(&self, wrapped: &Wrapped, context: &ProviderContext) -> Result<KeyBytes> {
        let server = Server::of(&self.key).await?;
        let ciphertext = wrapped.ciphertext.to_string();
        let body = body("ciphertext", &ciphertext, context, &wrapped.key);
        let (answer, held) = self.ask(&server, &Action::Decrypt, Some(&body)).await?;
        let key = answer.string(["data", "plaintext"]).and_then(|text| key_of(&text))?;
        self.tokens.keep_alive(&server, &held).await;
        Ok(key)
    }
}

impl fmt::Debug for VaultTransit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultTransit").field("key", &self.key.to_string()).finish_non_exhaustive()
    }
}

#[async_trait]
impl MasterKeyProvider for VaultTransit {
    fn kind(&self) -> &'static str {
        "vault-transit"
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        let key = KeyBytes::generate()?;
        let record = self.wrap(&key, context).await?;
        Ok((MasterKey::new(context.master_key_id, key), record))
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        let id = context.master_key_id;
        let within = |error: Error| error.within(format_args!("record of master key {id}"));
        let wrapped = Wrapped::of_record(record).map_err(within)?;
        match self.unwrapped(&wrapped, context).await {
            Ok(key) => Ok(MasterKey::new(id, key)),
            // It says itself that it is another key's. That may be a lie: nothing was opened.
            Err(error) if error.kind() == ErrorKind::Tampered && wrapped.key != *self.key => {
                let what = format!("it was encrypted at {}, and {} doesn't open it", wrapped.key, self.key);
                Err(within(Error::new(ErrorKind::KeyUnavailable, what)))
            }
            Err(error) => {
                let version = wrapped.ciphertext.version();
                Err(within(error.within(format_args!("encrypted by the key's version {version}"))))
            }
        }
    }

    async fn wrap(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        let server = Server::of(&self.key).await?;
        // A token that may create keys makes one by encrypting with it: a slip in the address would be a key that nobody
        // knows of. A token that may not look may not create either, as the manual has it.
        let Given { held, .. } = self.tokens.get(&server).await?;
        match self.ask_with(&server, &Action::Look, None, &held).await {
            Err(error) if error.kind() != ErrorKind::Refused => return Err(error),
            _ => {}
        }
        let text = text_of(key);
        let body = body("plaintext", &text, context, &self.key);
        let (answer, held) = self.ask(&server, &Action::Encrypt, Some(&body)).await?;
        let ciphertext = answer.string(["data", "ciphertext"])?;
        let ciphertext = Ciphertext::parse(ciphertext.expose_secret()).ok_or_else(server::no_sense)?;
        self.tokens.keep_alive(&server, &held).await;
        Wrapped { key: Key::clone(&self.key), ciphertext }.to_record()
    }

    fn cache(&self) -> Option<CachePeriod> {
        Some(CachePeriod::default())
    }
}

/// A request with `text`, which needs no escape, bound to the context and to the address that the record says; of its whole
/// length, so that it never moves and leaves a copy behind.
fn body(name: &str, text: &str, context: &ProviderContext, made_at: &Key) -> Zeroizing<String> {
    let context = STANDARD.encode([context.associated_data(), made_at.to_string().into_bytes()].concat());
    let parts = [
        "{\"",
        name,
        "\":\"",
        text,
        "\",\"associated_data\":\"",
        &context,
        "\",\"context\":\"",
        &context,
        "\"}",
    ];
    let mut body = Zeroizing::new(String::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        body.push_str(part);
    }
    body
}

fn text_of(key: &KeyBytes) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(KEY_CHARS));
    STANDARD.encode_string(key.expose(), &mut text);
    text
}

/// The key in an answer, which is wiped.
fn key_of(text: &SecretText) -> Result<KeyBytes> {
    let text = text.expose_secret();
    let bytes = match text.len() {
        0..=MAX_PLAINTEXT_CHARS => STANDARD.decode(text).ok().map(Zeroizing::new),
        _ => None,
    };
    let bytes = bytes.ok_or_else(server::no_sense)?;
    KeyBytes::copy_of(&bytes).map_err(|_| {
        let what = format!("the engine gave {} bytes in place of a master key", bytes.len());
        Error::new(ErrorKind::Provider, what)
    })
}
