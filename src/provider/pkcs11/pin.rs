//! Where a token's PIN is, and the PIN itself.

use std::fmt;
use std::path::{Path, PathBuf};

use cryptoki::types::AuthPin;

use crate::error::{Error, ErrorKind, Result};
use crate::provider::environment::{checked_name, value_of};
use crate::provider::guarded_file;

/// The most bytes of a PIN: tokens take 4 to some 64; a larger file is another one, given by mistake.
const MAX_PIN_BYTES: usize = 255;

/// A place of a PIN: the value of `pin-source`.
#[derive(Clone, Debug)]
pub(super) enum PinSource {
    Environment(String),
    File(PathBuf),
}

impl PinSource {
    /// `env:NAME`, `file:/PATH`, `file:///PATH` or `/PATH`; nothing is read yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for anything else, which may be a PIN and is not repeated.
    pub(super) fn read(value: &str) -> Result<Self> {
        if let Some(name) = value.strip_prefix("env:") {
            return Ok(Self::Environment(checked_name(name)?));
        }
        let path = value.strip_prefix("file:").unwrap_or(value);
        let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
        if !path.starts_with('/') || path.starts_with("//") {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "`pin-source` is `file:` and an absolute path, or `env:` and the name of a variable; never the PIN, and \
                 no program (what was given is not repeated here)",
            ));
        }
        Ok(Self::File(Path::new(path).to_owned()))
    }

    /// The PIN: all of the variable, or of the file but one newline (`\n` or `\r\n`) at its end.
    ///
    /// # Errors
    ///
    /// `Provider` if it is not there, empty, too long, or others may read the file, which keeps the rules of a key file.
    pub(super) fn pin(&self) -> Result<AuthPin> {
        let refuse = |what: &str| Error::new(ErrorKind::Provider, format!("{self} {what}"));
        let checked = |pin: &str| match pin.len() {
            0 => Err(refuse("is empty")),
            1..=MAX_PIN_BYTES => Ok(AuthPin::from(pin)),
            _ => Err(refuse("has more bytes than a PIN has")),
        };
        match self {
            Self::Environment(name) => checked(&value_of(name)?),
            Self::File(path) => {
                // Two bytes more: the newline.
                let bytes = guarded_file::read("PIN file", path, MAX_PIN_BYTES + 2)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| refuse("is not UTF-8 text"))?;
                let line = text.strip_suffix('\n');
                checked(line.map_or(text, |line| line.strip_suffix('\r').unwrap_or(line)))
            }
        }
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "PIN file {path:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_source_is_a_file_or_a_variable_and_never_the_pin() {
        for (value, source) in [
            ("env:HSM_PIN", "environment variable HSM_PIN"),
            ("file:/etc/pin", "PIN file \"/etc/pin\""),
            ("file:///etc/pin", "PIN file \"/etc/pin\""),
            ("/etc/pin", "PIN file \"/etc/pin\""),
        ] {
            assert_eq!(PinSource::read(value).unwrap().to_string(), source, "{value}");
        }
        for value in [
            "",
            "hunter2",
            "env:",
            "env:hunter2 !",
            "env:1hunter2",
            "file:hunter2",
            "file:",
            "file://hunter2/pin",
            "//hunter2",
            "file:////hunter2",
            "|hunter2",
            "http://hunter2",
            "ENV:hunter2",
        ] {
            let error = PinSource::read(value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{value}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_file_gives_its_one_line_if_nobody_else_could_read_it() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("pin");
        let source = PinSource::read(path.to_str().unwrap()).unwrap();
        let pin = |bytes: &[u8], mode| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            source.pin()
        };
        for (bytes, expected) in
            [("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), (" a\n\n", " a\n"), ("1", "1")]
        {
            assert_eq!(pin(bytes.as_bytes(), 0o600).unwrap().expose_secret(), expected);
        }
        for (bytes, mode) in [
            ("", 0o600),
            ("\n", 0o600),
            ("hunter2", 0o644),
            ("hunter2", 0o660),
            (&"hunter2".repeat(40), 0o600),
        ] {
            let error = pin(bytes.as_bytes(), mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Provider, "{bytes}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(pin(b"hunter2\xff", 0o600).is_err());
        fs::remove_file(&path).unwrap();
        assert_eq!(source.pin().unwrap_err().kind(), ErrorKind::Provider);
    }
}
