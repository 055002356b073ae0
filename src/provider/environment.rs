//! Master keys in an environment variable.

use std::ffi::OsString;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::text::{self, MasterKeyLines};
use super::{MasterKeyProvider, ProviderContext, ProviderRecord, in_background};
use crate::crypto::key::MasterKey;
use crate::error::{Error, ErrorKind, Result};
use crate::id::MasterKeyId;

/// Master keys in an environment variable, which holds what a [`KeyFile`](super::KeyFile) holds: one
/// [`MasterKeyText`](super::MasterKeyText), or several in lines.
///
/// The environment can be read by everyone who may look into the process, is inherited by the programs that it
/// starts, and is not wiped: a key file is better where there is a choice.
#[derive(Clone, Debug)]
pub struct Environment {
    variable: String,
}

impl Environment {
    /// The keys in the variable `name`, which is not looked at yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless `name` is letters, digits and `_` (ASCII), not a digit first: it may be a secret
    /// that was given in the place of a name, and is not repeated.
    pub fn new(name: &str) -> Result<Self> {
        Ok(Self { variable: checked_name(name)? })
    }

    async fn keys(&self) -> Result<MasterKeyLines> {
        let variable = self.variable.clone();
        in_background(move || {
            let value = value_of(&variable)?;
            MasterKeyLines::read(format!("environment variable {variable}"), value.as_bytes())
        })
        .await
    }
}

#[async_trait]
impl MasterKeyProvider for Environment {
    fn kind(&self) -> &'static str {
        text::ENVIRONMENT
    }

    fn opens(&self, kind: &str) -> bool {
        text::is_text(kind)
    }

    /// The one key of the variable, with the id that it has there.
    async fn create(&self, _context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        Ok((self.keys().await?.into_only()?, ProviderRecord::empty()))
    }

    /// The key with the id of `context`; the record is not needed.
    async fn unlock(&self, _record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        self.keys().await?.into_key(context.master_key_id)
    }

    /// The ids of all keys of the variable.
    async fn ids(&self) -> Result<Vec<MasterKeyId>> {
        self.keys().await?.into_ids()
    }
}

/// The name of a variable, if it looks like one and not like a secret.
pub(super) fn checked_name(name: &str) -> Result<String> {
    let well_formed = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text::looks_like_a_key(name);
    if !well_formed {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "the name of an environment variable is letters, digits and `_`, not a digit first; give the name, \
             never the value (what was given is not repeated here)",
        ));
    }
    Ok(name.to_owned())
}

/// The value of the variable `name`.
///
/// # Errors
///
/// `Provider` if it is unset, empty or not UTF-8, naming the variable only.
pub(super) fn value_of(name: &str) -> Result<Zeroizing<String>> {
    checked_value(std::env::var_os(name))
        .map_err(|what| Error::new(ErrorKind::Provider, format!("environment variable {name} {what}")))
}

fn checked_value(value: Option<OsString>) -> std::result::Result<Zeroizing<String>, &'static str> {
    let value = value.ok_or("is not set")?;
    match String::from_utf8(value.into_encoded_bytes()) {
        Ok(value) if value.is_empty() => Err("is empty"),
        Ok(value) => Ok(Zeroizing::new(value)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err("is not UTF-8 text")
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;
    use uuid::Uuid;

    use super::super::MasterKeyText;
    use super::*;

    const VARIABLE: &str = "CREDVAULT_TEST_MASTER_KEY";

    /// The environment of a running process can't be changed safely: this test runs itself once more with the
    /// variable set.
    #[tokio::test]
    async fn a_key_in_a_variable_is_found_by_its_id() {
        let provider = Environment::new(VARIABLE).unwrap();
        let mut context = ProviderContext::new(Uuid::nil().into(), Uuid::nil().into());
        if std::env::var_os(VARIABLE).is_some() {
            let (key, record) = provider.create(&context).await.unwrap();
            assert_eq!(record.as_str(), "");
            let missing = provider.unlock(&record, &context).await.unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::KeyUnavailable);
            assert!(missing.to_string().contains(VARIABLE));
            context.master_key_id = key.id();
            let unlocked = provider.unlock(&record, &context).await.unwrap();
            assert_eq!(unlocked.bytes().expose(), key.bytes().expose());
            return;
        }
        let error = provider.create(&context).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert_eq!(error.to_string(), format!("environment variable {VARIABLE} is not set"));
        let key = MasterKeyText::generate().unwrap();
        let again = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "provider::environment::tests::a_key_in_a_variable_is_found_by_its_id"])
            .env(VARIABLE, key.text().expose_secret())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn a_variable_without_a_text_is_refused() {
        assert_eq!(checked_value(None).unwrap_err(), "is not set");
        assert_eq!(checked_value(Some("".into())).unwrap_err(), "is empty");
        assert_eq!(checked_value(Some(" x\n".into())).unwrap().as_str(), " x\n");
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStringExt;
            let value = OsString::from_vec(vec![b'a', 0xff]);
            assert_eq!(checked_value(Some(value)).unwrap_err(), "is not UTF-8 text");
        }
    }

    #[test]
    fn a_name_that_may_be_a_secret_is_refused_and_not_repeated() {
        for name in ["CREDVAULT_MASTER_KEY", "_", "a1"] {
            assert!(Environment::new(name).is_ok(), "{name}");
        }
        for name in ["", "1A", "hunter2!", "a b", "A=B", "a\0b", "ключ", "cvmk1_abcdefgh"] {
            let error = Environment::new(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(name.is_empty() || !format!("{error:?}").contains(name), "{error}");
        }
    }

    #[test]
    fn it_opens_the_keys_of_a_key_file() {
        let provider = Environment::new(VARIABLE).unwrap();
        assert!(provider.opens("environment") && provider.opens("key-file"));
        assert!(!provider.opens("passphrase"));
    }
}
