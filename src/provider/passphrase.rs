//! A master key derived from a passphrase.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::environment::{checked_name, value_of};
use super::recipe::Recipe;
use super::{
    Argon2Parameters, MasterKeyProvider, ProviderContext, ProviderRecord, guarded_file, in_background,
};
use crate::crypto::kdf;
use crate::crypto::key::MasterKey;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::SecretText;

/// The most bytes of a passphrase: more than anyone types or generates; a larger file is another one, given by
/// mistake.
pub const MAX_PASSPHRASE_BYTES: usize = 4_096;

/// A master key derived from a passphrase by argon2id (RFC 9106), version 0x13.
///
/// The salt, 16 random bytes, and the parameters are the provider record; so the same passphrase gives another
/// key in another vault:
///
/// ```text
/// argon2id$v=19$m=65536,t=3,p=4$ + base64url( salt 16 ), without padding
/// ```
///
/// A wrong passphrase gives a wrong key, which the vault notices by its key check. The passphrase is its bytes
/// as they are given: text that looks the same but is composed of other characters is another one.
///
/// Whoever has the database can try passphrases against it, as fast as argon2id lets them: a key file is better
/// where there is a choice, and a passphrase should be generated, not invented.
#[derive(Clone)]
pub struct Passphrase {
    source: Arc<Source>,
    parameters: Argon2Parameters,
}

enum Source {
    Environment(String),
    File(PathBuf),
    Given(SecretText),
}

impl Passphrase {
    /// The passphrase in the environment variable `name`, all of its value. It is not looked at yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless `name` is letters, digits and `_` (ASCII), not a digit first: it may be a
    /// passphrase that was given in the place of a name, and is not repeated.
    pub fn from_environment(name: &str) -> Result<Self> {
        Ok(Self::from_source(Source::Environment(checked_name(name)?)))
    }

    /// The passphrase in the file at `path`, all of it but one newline (`\n` or `\r\n`) at its end. The file is
    /// not looked at yet; it keeps the rules of a [`KeyFile`](super::KeyFile).
    #[must_use]
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self::from_source(Source::File(path.into()))
    }

    /// The passphrase `secret`, as someone typed it.
    #[must_use]
    pub fn from_secret(secret: SecretText) -> Self {
        Self::from_source(Source::Given(secret))
    }

    fn from_source(source: Source) -> Self {
        Self { source: Arc::new(source), parameters: Argon2Parameters::default() }
    }

    /// The same passphrase, with other parameters for the keys that are made from now on. Keys that are stored
    /// keep the parameters of their record.
    #[must_use]
    pub fn with_parameters(mut self, parameters: Argon2Parameters) -> Self {
        self.parameters = parameters;
        self
    }

    /// The key by `recipe`; derived in a thread for blocking work, where it takes a while.
    async fn derive(&self, recipe: Recipe, context: &ProviderContext) -> Result<MasterKey> {
        let source = Arc::clone(&self.source);
        let id = context.master_key_id;
        in_background(move || {
            let key = source
                .with_passphrase(|passphrase| kdf::argon2id(passphrase, &recipe.salt, &recipe.parameters))?;
            Ok(MasterKey::new(id, key))
        })
        .await
    }
}

#[async_trait]
impl MasterKeyProvider for Passphrase {
    fn kind(&self) -> &'static str {
        "passphrase"
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        let recipe = Recipe::draw(self.parameters)?;
        let record = recipe.to_record();
        Ok((self.derive(recipe, context).await?, record?))
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        // All of the record is judged here, before any memory is taken for it.
        let recipe = Recipe::of_record(record)
            .map_err(|error| error.within(format_args!("record of master key {}", context.master_key_id)))?;
        self.derive(recipe, context).await
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase")
            .field("source", &format_args!("{}", self.source))
            .field("parameters", &self.parameters)
            .finish()
    }
}

impl Source {
    fn with_passphrase<T>(&self, use_it: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let refuse = |what: &str| Error::new(ErrorKind::Provider, format!("{self} {what}"));
        let checked = |passphrase: &str| match passphrase.len() {
            0 => Err(refuse("is empty")),
            1..=MAX_PASSPHRASE_BYTES => use_it(passphrase.as_bytes()),
            _ => Err(refuse(&format!("has more than {MAX_PASSPHRASE_BYTES} bytes"))),
        };
        match self {
            Self::Environment(name) => checked(&value_of(name)?),
            Self::Given(secret) => checked(secret.expose_secret()),
            Self::File(path) => {
                // Two bytes more: the newline.
                let bytes: Zeroizing<Vec<u8>> =
                    guarded_file::read("passphrase file", path, MAX_PASSPHRASE_BYTES + 2)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| refuse("is not UTF-8 text"))?;
                let line = text.strip_suffix('\n');
                checked(line.map_or(text, |line| line.strip_suffix('\r').unwrap_or(line)))
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "passphrase file {path:?}"),
            Self::Given(_) => f.write_str("passphrase"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;

    const CHEAP: &str = "argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw";

    fn context() -> ProviderContext {
        ProviderContext::new(Uuid::nil().into(), Uuid::from_u128(1).into())
    }

    fn record(text: &str) -> ProviderRecord {
        ProviderRecord::new(text.to_owned()).unwrap()
    }

    fn given(text: &str) -> Passphrase {
        Passphrase::from_secret(SecretText::copy_of(text))
            .with_parameters(Argon2Parameters::new(19_456, 2, 1).unwrap())
    }

    async fn hex(provider: &Passphrase, record: &ProviderRecord) -> Result<String> {
        let key = provider.unlock(record, &context()).await?;
        assert_eq!(key.id(), context().master_key_id);
        Ok(key.bytes().expose().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn secret_file(directory: &TempDir, bytes: &[u8]) -> PathBuf {
        let path = directory.path().join("passphrase");
        fs::write(&path, bytes).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        path
    }

    #[tokio::test]
    async fn a_record_and_a_passphrase_give_the_key_that_other_implementations_derive() {
        // Computed with argon2-cffi 25.1 (the reference code in C) and with OpenSSL's Argon2id; both agree.
        let provider = given("correct horse battery staple ✓");
        assert_eq!(
            hex(&provider, &record(CHEAP)).await.unwrap(),
            "3e7caf996a18c8dfc1f1a48f6fff143559b42ed6d09c910eed5de401cd5c9df4"
        );
    }

    #[tokio::test]
    async fn a_created_key_is_unlocked_by_its_record_and_by_no_other_passphrase() {
        let provider = given("correct horse");
        let (key, first) = provider.create(&context()).await.unwrap();
        let expected: String = key.bytes().expose().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(key.id(), context().master_key_id);
        assert!(first.as_str().starts_with("argon2id$v=19$m=19456,t=2,p=1$"));
        // The record's parameters count, not those for new keys.
        let again = Passphrase::from_secret(SecretText::copy_of("correct horse"));
        assert_eq!(hex(&again, &first).await.unwrap(), expected);
        assert_ne!(hex(&given("correct horse "), &first).await.unwrap(), expected);

        let (_, second) = provider.create(&context()).await.unwrap();
        assert_ne!(first, second, "each key has a salt of its own");
    }

    #[tokio::test]
    async fn a_record_is_judged_before_the_passphrase_is_read() {
        // The passphrase is empty: had it been looked at, the error would be another.
        let hostile = record(&CHEAP.replace("m=19456", "m=4294967295"));
        let error = given("").unlock(&hostile, &context()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        let id = context().master_key_id.to_string();
        assert!(error.to_string().contains(&id), "{error}");
    }

    #[tokio::test]
    async fn one_newline_at_the_end_of_a_file_is_dropped() {
        let directory = TempDir::new().unwrap();
        let passphrase_of = |bytes: &[u8]| {
            let source = Source::File(secret_file(&directory, bytes));
            source.with_passphrase(|passphrase| Ok(passphrase.to_vec()))
        };
        for (bytes, passphrase) in [
            ("word", "word"),
            ("word\n", "word"),
            ("word\r\n", "word"),
            ("word\n\n", "word\n"),
            ("word\r\n\r\n", "word\r\n"),
            ("word\r", "word\r"),
            (" word \n", " word "),
            ("two\nlines\n", "two\nlines"),
            ("\n\n", "\n"),
        ] {
            assert_eq!(passphrase_of(bytes.as_bytes()).unwrap(), passphrase.as_bytes());
        }
        for bytes in [&b""[..], b"\n", b"\r\n", b"\xff\xfe"] {
            assert_eq!(passphrase_of(bytes).unwrap_err().kind(), ErrorKind::Provider);
        }
        let longest = "x".repeat(MAX_PASSPHRASE_BYTES);
        for end in ["", "\n", "\r\n"] {
            let bytes = format!("{longest}{end}");
            assert_eq!(passphrase_of(bytes.as_bytes()).unwrap().len(), MAX_PASSPHRASE_BYTES);
        }
        for end in ["x", "x\n", "\n\n"] {
            assert!(passphrase_of(format!("{longest}{end}").as_bytes()).is_err());
        }
        let path = secret_file(&directory, b"word\n");
        let from_file = Passphrase::from_file(path);
        assert_eq!(
            hex(&from_file, &record(CHEAP)).await.unwrap(),
            hex(&given("word"), &record(CHEAP)).await.unwrap()
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_passphrase_file_keeps_the_rules_of_a_key_file() {
        use std::os::unix::fs::PermissionsExt;

        let directory = TempDir::new().unwrap();
        let path = secret_file(&directory, b"word");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Passphrase::from_file(&path).create(&context()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.to_string().contains("chmod"), "{error}");
    }

    #[tokio::test]
    async fn empty_unset_and_endless_passphrases_are_refused() {
        let unset = Passphrase::from_environment("CREDVAULT_TEST_UNSET").unwrap();
        for (provider, says) in [
            (given(""), "is empty"),
            (given(&"x".repeat(MAX_PASSPHRASE_BYTES + 1)), "more than 4096 bytes"),
            (unset, "CREDVAULT_TEST_UNSET is not set"),
        ] {
            for error in [
                provider.create(&context()).await.unwrap_err(),
                hex(&provider, &record(CHEAP)).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Provider);
                assert!(error.to_string().contains(says), "{error}");
            }
        }
        // Cargo sets this one for the tests that it runs.
        let variable = Passphrase::from_environment("CARGO_PKG_NAME").unwrap();
        assert_eq!(
            hex(&variable, &record(CHEAP)).await.unwrap(),
            hex(&given(env!("CARGO_PKG_NAME")), &record(CHEAP)).await.unwrap()
        );
    }

    #[test]
    fn a_passphrase_is_not_shown() {
        let shown = format!("{:?}", given("hunter2"));
        assert!(!shown.contains("hunter2") && shown.contains("19456"), "{shown}");
        let error = Passphrase::from_environment("hunter2 !").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
