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
use self::token::{Given, Tokens};
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
/// The token of a login is kept until it ends or is refused, and is then got anew, once. A token that can be renewed is, beside
/// the call that used it: one that was given at each use, one of a login when half of its time is over. Nothing turns the check
/// of certificates off, and neither a redirect nor a proxy is followed.
///
/// Each request is made four times at most, 5 s each, where that may help: 22 s in all. To unlock takes one, and a login before it
/// where there is none yet: 44 s at most; or three, if the token of an earlier login is refused: the request, the login and the
/// request again, 66 s. To create or wrap takes three: a look whether the key is there, the encryption, and a decryption in
/// another context, which must fail; with a login four, 88 s at most, or five, 110 s. Before Vault 1.13 that decryption succeeds, as
/// nothing was bound: it is `Unsupported`.
///
/// What is ours of a key in plaintext is wiped; the buffers of HTTP and TLS are not.
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

    async fn session(&self) -> Result<Session<'_>> {
        let server = Arc::new(Server::of(&self.key).await?);
        let given = self.tokens.get(&server).await?;
        Ok(Session { tokens: &self.tokens, server, given })
    }

    /// The key that the engine makes of a record.
    async fn unwrapped(&self, wrapped: &Wrapped, context: &ProviderContext) -> Result<KeyBytes> {
        let mut session = self.session().await?;
        let ciphertext = wrapped.ciphertext.to_string();
        let body = body("ciphertext", &ciphertext, &bound(context, &wrapped.key));
        let answer = session.ask(&Action::Decrypt, Some(&body)).await?;
        let key = answer.string(["data", "plaintext"]).and_then(|text| key_of(&text))?;
        session.end();
        Ok(key)
    }
}

/// A server, and the token that one call of the provider asks it with.
struct Session<'a> {
    tokens: &'a Tokens,
    server: Arc<Server>,
    given: Given,
}

impl Session<'_> {
    /// What the server answers, asked again where that may help, and once more by another login if the token of an earlier one
    /// is refused; one login at most.
    async fn ask(&mut self, action: &Action<'_>, body: Option<&Zeroizing<String>>) -> Result<Answer> {
        match self.ask_with_the_token(action, body).await {
            Err(error) if error.kind() == ErrorKind::Refused && self.given.is_of_an_earlier_login => {
                self.tokens.forget(&self.given.held).await;
                tracing::info!(key = %self.server.key, "the token is refused: logging in again");
                let Given { held, .. } = self.tokens.get(&self.server).await?;
                self.given = Given { held, is_of_an_earlier_login: false };
                self.ask_with_the_token(action, body).await
            }
            answer => answer,
        }
    }

    async fn ask_with_the_token(
        &self,
        action: &Action<'_>,
        body: Option<&Zeroizing<String>>,
    ) -> Result<Answer> {
        let (server, token) = (&self.server, &self.given.held.token);
        service::asked(server.key.origin(), || server.call(action, Some(token), body)).await
    }

    /// Sees to it that the ciphertext opens in no other context than that of `bound`.
    ///
    /// # Errors
    ///
    /// `Unsupported` if it does: `associated_data` is new in Vault 1.13, and before that is passed over without a word.
    async fn try_out(&mut self, ciphertext: &Ciphertext, mut bound: Vec<u8>) -> Result<()> {
        if let Some(last) = bound.last_mut() {
            *last ^= 1;
        }
        let ciphertext = ciphertext.to_string();
        match self.ask(&Action::Decrypt, Some(&body("ciphertext", &ciphertext, &bound))).await {
            Err(error) if error.kind() == ErrorKind::Tampered => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                let what = format!(
                    "{}: this server doesn't authenticate associated_data: it takes Vault 1.13 or newer, or OpenBao",
                    self.server.key
                );
                Err(Error::new(ErrorKind::Unsupported, what))
            }
        }
    }

    /// The token was of use.
    fn end(self) {
        token::keep_alive(self.server, self.given.held);
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
        let mut session = self.session().await?;
        // A token that may create keys makes one by encrypting with it: a slip in the address would be a key that nobody
        // knows of. A token that may not look may not create either, as the manual has it.
        match session.ask(&Action::Look, None).await {
            Err(error) if error.kind() != ErrorKind::Refused => return Err(error),
            _ => {}
        }
        let bound = bound(context, &self.key);
        let ciphertext = {
            let text = text_of(key);
            let body = body("plaintext", &text, &bound);
            session.ask(&Action::Encrypt, Some(&body)).await?.string(["data", "ciphertext"])?
        };
        let ciphertext = Ciphertext::parse(ciphertext.expose_secret()).ok_or_else(server::no_sense)?;
        session.try_out(&ciphertext, bound).await?;
        session.end();
        Wrapped { key: Key::clone(&self.key), ciphertext }.to_record()
    }

    fn cache(&self) -> Option<CachePeriod> {
        Some(CachePeriod::default())
    }
}

/// What a ciphertext is bound to: the context, and the address that the record says.
fn bound(context: &ProviderContext, made_at: &Key) -> Vec<u8> {
    [context.associated_data(), made_at.to_string().into_bytes()].concat()
}

/// A request with `text`, which needs no escape; of its whole length, so that it never moves and leaves a copy behind.
fn body(name: &str, text: &str, bound: &[u8]) -> Zeroizing<String> {
    let context = STANDARD.encode(bound);
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
