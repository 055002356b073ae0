//! Master keys in a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use secrecy::ExposeSecret;
use zeroize::Zeroizing;

use super::text::{self, MasterKeyLines, MasterKeyText};
use super::{MasterKeyProvider, ProviderContext, ProviderRecord, guarded_file, in_background};
use crate::crypto::key::MasterKey;
use crate::error::{Error, ErrorKind, Result};
use crate::id::MasterKeyId;

/// The most bytes of a key file: some eight hundred keys, far more than one vault ever has; a larger file is
/// another one, given by mistake.
pub const MAX_KEY_FILE_BYTES: usize = 65_536;

/// Master keys in a file: one [`MasterKeyText`] a line, `#` starts a comment, blank lines are allowed.
///
/// The file is regular and of [`MAX_KEY_FILE_BYTES`] at most. On Unix it belongs to root or to the process's
/// effective user, its group may read it but not write, others have no right to it; symbolic links are
/// followed. (Elsewhere the system's own access lists have to keep it.) It is read anew for each key that is
/// asked for, which is once as long as the vault is open.
///
/// The keys have their ids in their text, so a key may be moved between a file and an
/// [`Environment`](super::Environment) variable: each opens the other's.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// The key file at `path`, which is not looked at yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Writes a new file at `path` with one fresh master key, readable and writable by its owner only, and
    /// returns the key's id. The file is on disk when this returns; it blocks until then.
    ///
    /// # Errors
    ///
    /// `Refused` if there is something at `path` already: a key is never overwritten. `Provider` if the file
    /// can't be written (then none is left behind), or the random generator fails.
    pub fn generate(path: impl AsRef<Path>) -> Result<MasterKeyId> {
        let path = path.as_ref();
        let key = MasterKeyText::generate()?;
        let id = key.id();
        let comment = format!(
            "# Master key {id} of a credvault.\n\
             # Back this file up, apart from the database: without it every credential in the vault is lost.\n\
             # Whoever has both this file and the database can read them all.\n"
        );
        let mut text = Zeroizing::new(String::with_capacity(comment.len() + key.text().len() + 1));
        text.push_str(&comment);
        text.push_str(key.text().expose_secret());
        text.push('\n');

        let mut file = create_new(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::new(
                ErrorKind::Refused,
                format!("{path:?} is there already, and a key is never overwritten: give another path"),
            ),
            _ => unwritten(path, error),
        })?;
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_directory_of(path));
        if let Err(error) = written {
            // Half a key is of no use, and in the way of the next try. That it can't be removed says less than
            // that it could not be written.
            let _ = std::fs::remove_file(path);
            return Err(unwritten(path, error));
        }
        Ok(id)
    }

    async fn keys(&self) -> Result<MasterKeyLines> {
        let path = self.path.clone();
        in_background(move || {
            let bytes = guarded_file::read("key file", &path, MAX_KEY_FILE_BYTES)?;
            MasterKeyLines::read(format!("key file {path:?}"), &bytes)
        })
        .await
    }
}

#[async_trait]
impl MasterKeyProvider for KeyFile {
    fn kind(&self) -> &'static str {
        text::KEY_FILE
    }

    fn opens(&self, kind: &str) -> bool {
        text::is_text(kind)
    }

    /// The one key of the file, with the id that it has there; the file is never written.
    async fn create(&self, _context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        Ok((self.keys().await?.into_only()?, ProviderRecord::empty()))
    }

    /// The key with the id of `context`; the record is not needed.
    async fn unlock(&self, _record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        self.keys().await?.into_key(context.master_key_id)
    }

    /// The ids of all keys of the file.
    async fn ids(&self) -> Result<Vec<MasterKeyId>> {
        self.keys().await?.into_ids()
    }
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

/// Makes the file's name last through a loss of power, too.
#[cfg(unix)]
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory_of(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn unwritten(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Provider, format!("key file {path:?} can't be written: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;
    use uuid::Uuid;

    use super::*;

    fn context(id: MasterKeyId) -> ProviderContext {
        ProviderContext::new(Uuid::nil().into(), id)
    }

    #[tokio::test]
    async fn a_generated_file_gives_its_key_by_id() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("master.key");
        let id = KeyFile::generate(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        }
        let provider = KeyFile::new(&path);
        let (key, record) = provider.create(&context(Uuid::nil().into())).await.unwrap();
        assert_eq!(key.id(), id);
        assert_eq!(record, ProviderRecord::empty());
        let unlocked = provider.unlock(&record, &context(id)).await.unwrap();
        assert_eq!(unlocked.bytes().expose(), key.bytes().expose());

        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("Back this file up") && text.contains(&id.to_string()));
    }

    #[tokio::test]
    async fn a_file_with_two_keys_unlocks_both_and_creates_neither() {
        let directory = TempDir::new().unwrap();
        let (first, second) = (directory.path().join("first"), directory.path().join("second"));
        let ids = [KeyFile::generate(&first).unwrap(), KeyFile::generate(&second).unwrap()];
        let mut both = fs::read_to_string(&first).unwrap();
        both.push_str(&fs::read_to_string(&second).unwrap());
        fs::write(&first, both).unwrap();

        let provider = KeyFile::new(&first);
        for id in ids {
            let key = provider.unlock(&ProviderRecord::empty(), &context(id)).await.unwrap();
            assert_eq!(key.id(), id);
        }
        let error = provider.create(&context(ids[0])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.to_string().contains("2 master keys"), "{error}");

        let other = MasterKeyId::from(Uuid::now_v7());
        let error = provider.unlock(&ProviderRecord::empty(), &context(other)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyUnavailable);
        for named in [other.to_string(), format!("{first:?}")] {
            assert!(error.to_string().contains(&named), "{error}");
        }
    }

    #[test]
    fn it_opens_the_keys_of_a_variable() {
        let provider = KeyFile::new("master.key");
        assert!(provider.opens("key-file") && provider.opens("environment"));
        assert!(!provider.opens("passphrase"));
    }

    #[test]
    fn nothing_that_is_there_is_overwritten() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("master.key");
        fs::write(&path, "precious").unwrap();
        let error = KeyFile::generate(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");

        let missing = directory.path().join("nowhere").join("master.key");
        assert_eq!(KeyFile::generate(&missing).unwrap_err().kind(), ErrorKind::Provider);
        #[cfg(unix)]
        {
            let link = directory.path().join("link");
            std::os::unix::fs::symlink(directory.path().join("target"), &link).unwrap();
            assert_eq!(KeyFile::generate(&link).unwrap_err().kind(), ErrorKind::Refused);
            assert!(!directory.path().join("target").exists());
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_key_file_is_not_repeated() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("master.key");
        KeyFile::generate(&path).unwrap();
        fs::write(&path, "hunter2").unwrap();
        let error = KeyFile::new(&path).create(&context(Uuid::nil().into())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
