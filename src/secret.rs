//! Secrets in memory: wiped when dropped, never shown by `Debug`, neither cloned nor compared.

use std::fmt;

pub use secrecy::ExposeSecret;
use secrecy::SecretString;
use zeroize::{Zeroize, Zeroizing};

/// A secret text: a token, a password, a private key.
///
/// Read it with [`ExposeSecret::expose_secret`]. It is wiped when dropped and shows as `[REDACTED]`.
pub struct SecretText(SecretString);

impl SecretText {
    /// Copies `text` into memory that is wiped when dropped.
    #[must_use]
    pub fn copy_of(text: &str) -> Self {
        Self(SecretString::from(text))
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.expose_secret().len()
    }

    /// Whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ExposeSecret<str> for SecretText {
    fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for SecretText {
    /// Takes the text over and wipes the memory that it came in, with its unused capacity.
    fn from(mut text: String) -> Self {
        // Boxing a string shrinks it, which may move it and leave the old bytes behind: copy, then wipe.
        let secret = Self::copy_of(&text);
        text.zeroize();
        secret
    }
}

impl From<Zeroizing<String>> for SecretText {
    fn from(text: Zeroizing<String>) -> Self {
        Self::copy_of(&text)
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self::copy_of(text)
    }
}

impl From<SecretString> for SecretText {
    fn from(text: SecretString) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[REDACTED]")
    }
}
