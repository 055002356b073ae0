//! Where master keys come from: a key file, an environment variable, a passphrase, or a service of your own
//! behind [`MasterKeyProvider`].
//!
//! A provider gives a [`MasterKey`] and a [`ProviderRecord`]; the vault keeps the record in its database and
//! hands it back to unlock the same key later. The record is nothing that opens the key by itself: a salt with
//! parameters for a passphrase, a service's ciphertext of the key, nothing at all for a key file.

#[cfg(feature = "aws-kms")]
mod aws_kms;
#[cfg(feature = "azure-kv")]
mod azure_kv;
mod cache_period;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod canonical;
mod context;
mod environment;
#[cfg(all(unix, feature = "exec"))]
mod exec;
#[cfg(feature = "gcp-kms")]
mod gcp_kms;
mod guarded_file;
mod key_file;
#[cfg(any(
    test,
    feature = "aws-kms",
    feature = "azure-kv",
    feature = "exec",
    feature = "gcp-kms",
    feature = "pkcs11",
    feature = "vault-transit"
))]
mod one_call;
mod passphrase;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod recipe;
#[cfg(any(
    feature = "aws-kms",
    feature = "azure-kv",
    feature = "gcp-kms",
    feature = "pkcs11",
    feature = "vault-transit"
))]
mod record_form;
#[cfg(any(
    test,
    feature = "aws-kms",
    feature = "azure-kv",
    feature = "exec",
    feature = "gcp-kms",
    feature = "pkcs11",
    feature = "vault-transit"
))]
mod service;
mod services;
mod text;
#[cfg(feature = "vault-transit")]
mod vault_transit;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::zeroize_stack;

#[cfg(feature = "aws-kms")]
pub use self::aws_kms::AwsKms;
#[cfg(feature = "azure-kv")]
pub use self::azure_kv::AzureKv;
pub use self::cache_period::CachePeriod;
pub use self::context::ProviderContext;
pub use self::environment::Environment;
#[cfg(all(unix, feature = "exec"))]
pub use self::exec::Exec;
#[cfg(feature = "gcp-kms")]
pub use self::gcp_kms::GcpKms;
pub use self::key_file::{KeyFile, MAX_KEY_FILE_BYTES};
pub use self::passphrase::{MAX_PASSPHRASE_BYTES, Passphrase};
#[cfg(feature = "pkcs11")]
pub use self::pkcs11::Pkcs11;
pub use self::text::MasterKeyText;
#[cfg(feature = "vault-transit")]
pub use self::vault_transit::VaultTransit;
pub use crate::crypto::kdf::Argon2Parameters;
pub use crate::crypto::key::MasterKey;
pub use crate::crypto::key_bytes::{KEY_BYTES, KeyBytes};
use crate::error::{Error, ErrorKind, Result};
use crate::id::MasterKeyId;

/// A source of master keys.
///
/// The built-in ones are [`KeyFile`], [`Environment`] and [`Passphrase`]; those that a key-management service is behind
/// are features, [each with a page](crate::manual::providers). [`from_spec`] makes them all from a string. To keep the
/// master key in another service, implement this trait: let `create` draw a key with [`KeyBytes::generate`], have the
/// service encrypt it, and return its ciphertext as the record; `unlock` has the service decrypt it.
///
/// ```
/// use credvault::provider::{KeyBytes, MasterKey, MasterKeyProvider, ProviderContext, ProviderRecord};
/// use credvault::{Error, ErrorKind, Result};
///
/// /// A key-management service that keeps what it encrypted, by id.
/// #[derive(Debug)]
/// struct Service;
///
/// # impl Service {
/// #     async fn encrypt(&self, _: &KeyBytes, _: &ProviderContext) -> Result<String> { Ok("ciphertext".into()) }
/// #     async fn decrypt(&self, _: &str, _: &ProviderContext) -> Result<KeyBytes> { KeyBytes::copy_of(&[7; 32]) }
/// # }
/// #[async_trait::async_trait]
/// impl MasterKeyProvider for Service {
///     fn kind(&self) -> &'static str {
///         "my-service"
///     }
///
///     async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
///         let key = KeyBytes::generate()?;
///         let record = ProviderRecord::new(self.encrypt(&key, context).await?)?;
///         Ok((MasterKey::new(context.master_key_id, key), record))
///     }
///
///     async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
///         let key = self.decrypt(record.as_str(), context).await?;
///         Ok(MasterKey::new(context.master_key_id, key))
///     }
/// }
/// ```
#[async_trait]
pub trait MasterKeyProvider: fmt::Debug + Send + Sync {
    /// The kind of provider, as the master key's row spells it: `key-file`, `environment`, `passphrase`, or a
    /// name of your own. It must never change for keys that are stored.
    fn kind(&self) -> &'static str;

    /// Whether this provider may hold a key whose row is of `kind`; only its own kind, unless it says more.
    fn opens(&self, kind: &str) -> bool {
        kind == self.kind()
    }

    /// The master key to begin with, and the record to keep for it.
    ///
    /// The key has the id of `context`, unless the provider's keys come with an id of their own.
    ///
    /// # Errors
    ///
    /// `Provider` if the key can't be had; `InvalidInput` or `Refused` if what it would be made of is too weak.
    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)>;

    /// The master key with the id of `context`, from the record that `create` returned for it.
    ///
    /// A provider need not notice that it yields other bytes than before: the vault checks that.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` if this provider does not hold the key; `Malformed`, `Unsupported` or `Refused` if the
    /// record is none that it made; `Provider` if the key can't be had.
    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey>;

    /// The record of a key that is there already: what [`create`](Self::create) would have returned for it, made now, as
    /// after the service has rotated its own key.
    ///
    /// # Errors
    ///
    /// `Unsupported` where no service wraps the key, as by default; `Provider` if the service fails.
    async fn wrap(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        let _ = (key, context);
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("a master key of the kind {} has no record that could be made anew", self.kind()),
        ))
    }

    /// How long a key may be used without being asked for again; by default as long as the vault is open.
    fn cache(&self) -> Option<CachePeriod> {
        None
    }

    /// The ids of the keys that it holds, where keys come with ids of their own, as in a key file; none where the
    /// vault draws them. Only asked to say what was given.
    ///
    /// # Errors
    ///
    /// `Provider` if the keys can't be had.
    async fn ids(&self) -> Result<Vec<MasterKeyId>> {
        Ok(Vec::new())
    }
}

/// The most bytes of a [`ProviderRecord`]: some ten times what the ciphertext of a key by any key-management
/// service takes, and little enough to read with every master key.
pub const MAX_RECORD_BYTES: usize = 65_536;

/// What a provider keeps in a master key's row: text that only it reads, at most [`MAX_RECORD_BYTES`].
///
/// It is stored as it is, and is no secret by itself; so it is not shown by `Debug`, but nothing wipes it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ProviderRecord(String);

impl ProviderRecord {
    /// The record `text`.
    ///
    /// # Errors
    ///
    /// `Malformed` above [`MAX_RECORD_BYTES`], or with a NUL character, which PostgreSQL's `text` can't hold.
    pub fn new(text: String) -> Result<Self> {
        if text.len() > MAX_RECORD_BYTES || text.contains('\0') {
            return Err(Error::new(
                ErrorKind::Malformed,
                format!("a provider record is text of at most {MAX_RECORD_BYTES} bytes without NUL"),
            ));
        }
        Ok(Self(text))
    }

    /// The record of a provider that needs none.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ProviderRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProviderRecord({} bytes)", self.0.len())
    }
}

/// The provider that `spec` says:
///
/// - `file:PATH`: a [`KeyFile`];
/// - `env:NAME`: an [`Environment`] variable that holds the same text;
/// - `passphrase:env:NAME`: a [`Passphrase`] in a variable;
/// - `passphrase:file:PATH`: a [`Passphrase`] in a file, one newline at its end aside;
/// - `passphrase:prompt`: only in the command, which asks and calls [`Passphrase::from_secret`];
/// - `pkcs11:…`, with the feature `pkcs11`: a key of a PKCS#11 token, as a URI of RFC 7512 says it;
/// - `aws-kms:ARN` or `aws-kms:alias/NAME`, with the feature `aws-kms`: a key of AWS KMS;
/// - `azure-kv:https://NAME.vault.azure.net/keys/KEY`, or the same of `managedhsm.azure.net`, with the feature `azure-kv`: a key
///   of Azure Key Vault, or of a managed HSM;
/// - `vault-transit:https://HOST/MOUNT/KEY`, with the feature `vault-transit`: a key of a transit engine of HashiCorp Vault
///   or OpenBao;
/// - `gcp-kms:projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY`, with the feature `gcp-kms`: a key of Google
///   Cloud KMS;
/// - `exec:/PATH`: a program of your own that wraps the key, with the feature `exec`, on Unix: see
///   [the providers](crate::manual::providers).
///
/// A secret is never part of the string, and a string that holds one by mistake is not repeated in the error.
///
/// Of all in a process that ask a service by one spec for the same key at the same time, one makes the call, and all have
/// its answer, be it an error; who asks later makes a call again.
///
/// ```
/// let provider = credvault::provider::from_spec("file:/etc/credvault/master.key")?;
/// assert_eq!(provider.kind(), "key-file");
/// # Ok::<(), credvault::Error>(())
/// ```
///
/// # Errors
///
/// `InvalidInput` for any other form; `Unsupported` for `passphrase:prompt`. Nothing is read yet: whether the
/// file or variable is there shows when a key is asked for.
pub fn from_spec(spec: &str) -> Result<Arc<dyn MasterKeyProvider>> {
    if let Some(path) = spec.strip_prefix("file:") {
        return Ok(Arc::new(KeyFile::new(path_of(path)?)));
    }
    if let Some(name) = spec.strip_prefix("env:") {
        return Ok(Arc::new(Environment::new(name)?));
    }
    if let Some(name) = spec.strip_prefix("passphrase:env:") {
        return Ok(Arc::new(Passphrase::from_environment(name)?));
    }
    if let Some(path) = spec.strip_prefix("passphrase:file:") {
        return Ok(Arc::new(Passphrase::from_file(path_of(path)?)));
    }
    if spec == "passphrase:prompt" {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "`passphrase:prompt` asks at a terminal, which only the command does: use `passphrase:file:PATH` \
             or `passphrase:env:NAME`",
        ));
    }
    services::from_spec(spec).unwrap_or_else(|| Err(unknown_form()))
}

/// The path of a spec, unless it is none or a master key's text in its place.
fn path_of(path: &str) -> Result<&str> {
    if path.is_empty() || text::looks_like_a_key(path) {
        return Err(unknown_form());
    }
    Ok(path)
}

/// Says what is accepted, and repeats nothing: what was given may be a secret.
fn unknown_form() -> Error {
    Error::new(
        ErrorKind::InvalidInput,
        "a master key is given as `file:PATH`, `env:NAME`, `passphrase:env:NAME`, `passphrase:file:PATH`, \
         `passphrase:prompt` or as a key service's, such as `pkcs11:…`, never as the key or passphrase itself (what was given is not repeated here)",
    )
}

/// The stack that is wiped after reading a key, in bytes: several times what parsing and hashing take.
const STACK_BYTES: usize = 16 * 1024;

/// Runs `work`, which blocks and handles a secret, in a thread for such work, and wipes the stack after it. A
/// caller that goes away leaves it to end by itself; what it returns is then dropped, and wiped.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    #[inline(never)]
    fn run<T>(work: impl FnOnce() -> T) -> T {
        work()
    }
    let wiping = move || {
        let result = run(work);
        zeroize_stack::<STACK_BYTES>();
        result
    };
    tokio::task::spawn_blocking(wiping).await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Provider, "the thread that was to get the master key ended before it did"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_accepted_form_gives_its_provider() {
        for (spec, kind) in [
            ("file:/etc/master.key", "key-file"),
            ("file:relative path:with colon", "key-file"),
            ("env:CREDVAULT_KEY", "environment"),
            ("passphrase:env:CREDVAULT_PASSPHRASE", "passphrase"),
            ("passphrase:file:/etc/passphrase", "passphrase"),
        ] {
            assert_eq!(from_spec(spec).unwrap().kind(), kind, "{spec}");
        }
        let error = from_spec("passphrase:prompt").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_secret_in_the_place_of_a_spec_is_refused_and_not_repeated() {
        for spec in [
            "",
            "hunter2",
            "cvmk1_hunter2",
            "file:",
            "file:cvmk1_hunter2",
            "file: cvmk1_hunter2",
            "env:",
            "env:cvmk1_hunter2",
            "env:hunter2 !",
            "passphrase:",
            "passphrase:hunter2",
            "passphrase:env:",
            "passphrase:env:hunter2 is it",
            "passphrase:file:",
            "passphrase:prompt:hunter2",
            "FILE:hunter2",
            " file:hunter2",
            "kms:hunter2",
        ] {
            let error = from_spec(spec).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{spec}");
            assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        }
        let error = from_spec("hunter2").unwrap_err().to_string();
        for form in
            ["file:PATH", "env:NAME", "passphrase:env:NAME", "passphrase:file:PATH", "passphrase:prompt"]
        {
            assert!(error.contains(form), "{error}");
        }
    }

    #[test]
    fn a_record_is_bounded_and_not_shown() {
        let longest = "x".repeat(MAX_RECORD_BYTES);
        assert_eq!(ProviderRecord::new(longest.clone()).unwrap().as_str(), longest);
        for text in [format!("{longest}x"), "a\0b".to_owned()] {
            let error = ProviderRecord::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed);
        }
        let record = ProviderRecord::new("ciphertext".to_owned()).unwrap();
        assert_eq!(format!("{record:?}"), "ProviderRecord(10 bytes)");
    }
}
