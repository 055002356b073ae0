//! What the environment says: how to log in, the namespace, and whose certificates are trusted.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::key::is_path;
use crate::error::{Error, ErrorKind, Result};
use crate::provider::environment::value_of;
use crate::provider::guarded_file;
use crate::secret::SecretText;

/// OpenBao's names of the variables go before Vault's.
const PREFIXES: [&str; 2] = ["BAO_", "VAULT_"];

/// The most bytes of a token, a role's id or its secret: Vault's own have 30 to some hundred, a Kubernetes token some 1,500.
const MAX_SECRET_BYTES: usize = 16_384;

/// The most bytes of a file of certificates: a whole system's have a quarter.
pub(super) const MAX_CERTIFICATES_BYTES: usize = 1 << 20;

/// The most bytes of a namespace, or a role's name.
const MAX_NAME_BYTES: usize = 255;

/// Where Kubernetes puts the token of a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The settings, whose files were not read yet.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) namespace: Option<String>,
    pub(super) certificates: Option<PathBuf>,
    pub(super) identity: Identity,
}

/// How the server knows who asks.
#[derive(Debug)]
pub(super) enum Identity {
    /// By a token that somebody else keeps: read each time, as an agent may put another in its place.
    Token(Source),
    /// By a token that it gives for credentials.
    Login(Login),
}

#[derive(Clone, Debug)]
pub(super) enum Login {
    AppRole { mount: String, role: Source, secret: Option<Source> },
    Kubernetes { mount: String, role: String, token: PathBuf },
}

/// A place of a secret.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Variable(String),
    File(PathBuf),
}

impl Settings {
    /// Those of this process's environment.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if they contradict each other or make no sense, `Provider` if they say no way to log in.
    pub(super) fn of_process() -> Result<Self> {
        Self::of(&|name| std::env::var_os(name))
    }

    fn of(variables: &dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let read = Variables(variables);
        let namespace = read.text("NAMESPACE", |name| {
            name.bytes().all(|byte| byte.is_ascii_graphic()) && name.len() <= MAX_NAME_BYTES
        })?;
        let certificates = read.path("CACERT")?;
        Ok(Self { namespace, certificates, identity: read.identity()? })
    }
}

impl Login {
    /// The path of the login, as it is called.
    pub(super) fn path(&self) -> String {
        let (Self::AppRole { mount, .. } | Self::Kubernetes { mount, .. }) = self;
        format!("auth/{mount}/login")
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppRole { .. } => f.write_str("AppRole"),
            Self::Kubernetes { role, .. } => write!(f, "Kubernetes, role {role:?}"),
        }
    }
}

impl Source {
    /// The secret, one newline at a file's end aside.
    ///
    /// # Errors
    ///
    /// `Provider` if it is not there, empty or too long, or others may read the file, which keeps the rules of a key file.
    pub(super) fn secret(&self) -> Result<SecretText> {
        match self {
            Self::Variable(name) => checked(self, value_of(name)?.as_bytes()),
            Self::File(path) => {
                // One byte more: the newline.
                checked(self, &guarded_file::read("file", path, MAX_SECRET_BYTES + 1)?)
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {path:?}"),
        }
    }
}

/// The token that Kubernetes gave to the pod: its mode is Kubernetes' own, 0644 as a rule.
///
/// # Errors
///
/// `Provider` if it is not there, empty or too long.
pub(super) fn service_account_token(path: &Path) -> Result<SecretText> {
    let bytes = guarded_file::read_of_anyone("service account token", path, MAX_SECRET_BYTES + 1)?;
    checked(&Source::File(path.to_owned()), &bytes)
}

/// A secret that can be sent: a line of visible ASCII.
fn checked(source: &Source, bytes: &[u8]) -> Result<SecretText> {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let refuse = |what: &str| Error::new(ErrorKind::Provider, format!("{source} {what}"));
    match std::str::from_utf8(line) {
        Ok("") => Err(refuse("is empty")),
        Ok(text) if text.len() <= MAX_SECRET_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(SecretText::copy_of(text))
        }
        _ => Err(refuse("is not one line of visible ASCII, as a token or an id is")),
    }
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    /// The variable of this name that is set and not empty, `BAO_…` first.
    fn find(&self, name: &str) -> Option<(String, OsString)> {
        PREFIXES.iter().find_map(|prefix| {
            let full = format!("{prefix}{name}");
            let value = (self.0)(&full).filter(|value| !value.is_empty())?;
            Some((full, value))
        })
    }

    fn path(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some((full, value)) = self.find(name) else { return Ok(None) };
        let path = PathBuf::from(value);
        if !path.is_absolute() {
            let what =
                format!("environment variable {full} is no absolute path (its value is not repeated here)");
            return Err(Error::new(ErrorKind::InvalidInput, what));
        }
        Ok(Some(path))
    }

    fn text(&self, name: &str, is_allowed: fn(&str) -> bool) -> Result<Option<String>> {
        let Some((full, value)) = self.find(name) else { return Ok(None) };
        match value.into_string() {
            Ok(value) if is_allowed(&value) => Ok(Some(value)),
            _ => {
                let what =
                    format!("environment variable {full} makes no sense (its value is not repeated here)");
                Err(Error::new(ErrorKind::InvalidInput, what))
            }
        }
    }

    /// Where a secret is: in the variable `NAME`, or in the file that `NAME_FILE` says.
    fn source(&self, name: &str) -> Result<Option<Source>> {
        let file = format!("{name}_FILE");
        match (self.find(name), self.find(&file)) {
            (Some((one, _)), Some((other, _))) => Err(contradiction(&[one, other])),
            (Some((full, _)), None) => Ok(Some(Source::Variable(full))),
            (None, _) => Ok(self.path(&file)?.map(Source::File)),
        }
    }

    /// The one way to log in that is said; else the token that the command `bao login` or `vault login` left.
    fn identity(&self) -> Result<Identity> {
        let ways = ["TOKEN", "TOKEN_FILE", "ROLE_ID", "ROLE_ID_FILE", "ROLE"];
        let said: Vec<String> = ways.iter().filter_map(|way| Some(self.find(way)?.0)).collect();
        if said.len() > 1 {
            return Err(contradiction(&said));
        }
        if let Some(token) = self.source("TOKEN")? {
            return Ok(Identity::Token(token));
        }
        if let Some(role) = self.source("ROLE_ID")? {
            let (mount, secret) = (self.mount("approle")?, self.source("SECRET_ID")?);
            return Ok(Identity::Login(Login::AppRole { mount, role, secret }));
        }
        let is_name = |name: &str| name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
        if let Some(role) = self.text("ROLE", is_name)? {
            let token = self.path("JWT_FILE")?.unwrap_or_else(|| SERVICE_ACCOUNT_TOKEN.into());
            return Ok(Identity::Login(Login::Kubernetes { mount: self.mount("kubernetes")?, role, token }));
        }
        let home = (self.0)("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        match home.map(|home| home.join(".vault-token")).filter(|path| path.exists()) {
            Some(path) => Ok(Identity::Token(Source::File(path))),
            None => Err(Error::new(
                ErrorKind::Provider,
                "there is no way to log in to Vault: set VAULT_TOKEN or VAULT_TOKEN_FILE, VAULT_ROLE_ID and VAULT_SECRET_ID \
                 (AppRole, each with _FILE, too), or VAULT_ROLE (Kubernetes); BAO_… does as well",
            )),
        }
    }

    fn mount(&self, default: &str) -> Result<String> {
        Ok(self.text("AUTH_MOUNT", is_path)?.unwrap_or_else(|| default.to_owned()))
    }
}

fn contradiction(names: &[String]) -> Error {
    let what = format!("environment variables {} contradict each other: set one of them", names.join(", "));
    Error::new(ErrorKind::InvalidInput, what)
}

/// Whether both are the same secret.
pub(super) fn is_same(one: &SecretText, other: &SecretText) -> bool {
    one.expose_secret() == other.expose_secret()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::of(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    fn identity(variables: &[(&str, &str)]) -> String {
        format!("{:?}", of(variables).unwrap().identity)
    }

    #[test]
    fn one_way_to_log_in_is_taken_baos_name_before_vaults() {
        for (variables, expected) in [
            (&[("VAULT_TOKEN", "x")][..], "Token(Variable(\"VAULT_TOKEN\"))"),
            (&[("VAULT_TOKEN", "x"), ("BAO_TOKEN", "y")], "Token(Variable(\"BAO_TOKEN\"))"),
            (&[("VAULT_TOKEN", "x"), ("BAO_TOKEN", "")], "Token(Variable(\"VAULT_TOKEN\"))"),
            (&[("BAO_TOKEN_FILE", "/t")], "Token(File(\"/t\"))"),
            (
                &[("VAULT_ROLE_ID", "r"), ("VAULT_SECRET_ID_FILE", "/s"), ("HOME", "/")],
                "AppRole { mount: \"approle\", role: Variable(\"VAULT_ROLE_ID\"), secret: Some(File(\"/s\")) }",
            ),
            (
                &[("VAULT_ROLE_ID_FILE", "/r"), ("VAULT_AUTH_MOUNT", "team/approle")],
                "AppRole { mount: \"team/approle\", role: File(\"/r\"), secret: None }",
            ),
            (
                &[("VAULT_ROLE", "r")],
                "Kubernetes { mount: \"kubernetes\", role: \"r\", token: \"/var/run/secrets/kubernetes.io/serviceaccount/token\" }",
            ),
            (
                &[("BAO_ROLE", "r"), ("BAO_JWT_FILE", "/j"), ("BAO_AUTH_MOUNT", "k8s")],
                "Kubernetes { mount: \"k8s\", role: \"r\", token: \"/j\" }",
            ),
        ] {
            let said = identity(variables);
            assert!(said.contains(expected), "{said}");
        }
        let settings =
            of(&[("VAULT_TOKEN", "x"), ("VAULT_NAMESPACE", "a/b"), ("BAO_CACERT", "/ca.pem")]).unwrap();
        assert_eq!(settings.namespace.as_deref(), Some("a/b"));
        assert_eq!(settings.certificates.as_deref(), Some(Path::new("/ca.pem")));
    }

    #[test]
    fn what_contradicts_itself_or_makes_no_sense_is_refused_and_not_repeated() {
        for variables in [
            &[("VAULT_TOKEN", "hunter2"), ("VAULT_TOKEN_FILE", "/hunter2")][..],
            &[("VAULT_TOKEN", "hunter2"), ("VAULT_ROLE_ID", "hunter2")],
            &[("VAULT_ROLE_ID", "hunter2"), ("BAO_ROLE", "hunter2")],
            &[
                ("VAULT_ROLE_ID", "hunter2"),
                ("VAULT_SECRET_ID", "hunter2"),
                ("BAO_SECRET_ID_FILE", "/hunter2"),
            ],
            &[("VAULT_TOKEN_FILE", "hunter2")],
            &[("VAULT_TOKEN", "x"), ("VAULT_CACERT", "hunter2")],
            &[("VAULT_TOKEN", "x"), ("VAULT_NAMESPACE", "hunter2 x")],
            &[("VAULT_TOKEN", "x"), ("VAULT_NAMESPACE", "hunter2\r\nX-Vault-Token: y")],
            &[("VAULT_ROLE", "hunter2\n")],
            &[("VAULT_ROLE_ID", "x"), ("VAULT_AUTH_MOUNT", "../hunter2")],
        ] {
            let error = of(variables).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        for variables in [&[][..], &[("HOME", "/nowhere")], &[("HOME", "")]] {
            let error = of(variables).unwrap_err();
            assert!(
                error.kind() == ErrorKind::Provider && error.to_string().contains("VAULT_ROLE_ID"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_token_in_a_file_keeps_the_rules_of_a_key_file_and_is_one_line() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(".vault-token");
        let read = |bytes: &[u8], mode| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let settings = of(&[("HOME", folder.path().to_str().unwrap())]).unwrap();
            let Identity::Token(source) = settings.identity else { panic!("no token") };
            source.secret()
        };
        for bytes in ["hvs.x", "hvs.x\n", "hvs.x\r\n"] {
            assert_eq!(read(bytes.as_bytes(), 0o600).unwrap().expose_secret(), "hvs.x");
        }
        let longest = "x".repeat(MAX_SECRET_BYTES);
        assert_eq!(read(format!("{longest}\n").as_bytes(), 0o400).unwrap().len(), MAX_SECRET_BYTES);
        for (bytes, mode) in [
            ("", 0o600),
            ("\n", 0o600),
            ("hunter2\nhunter2", 0o600),
            ("hunter2 x", 0o600),
            ("hunter2é", 0o600),
            ("hunter2", 0o644),
            ("hunter2", 0o660),
            (&format!("{longest}xx"), 0o600),
        ] {
            let error = read(bytes.as_bytes(), mode).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Provider, "{bytes}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        // A pod's own token is as Kubernetes writes it.
        fs::write(&path, "a.b.c").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(service_account_token(&path).unwrap().expose_secret(), "a.b.c");
        for (what, path) in [("a device", Path::new("/dev/zero")), ("a folder", folder.path())] {
            assert!(service_account_token(path).is_err(), "{what}");
        }
    }
}
