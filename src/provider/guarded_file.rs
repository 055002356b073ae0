//! Reads a file that holds a secret, if nobody but its owner and group could have read it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// The bytes of the regular file at `path`, which is a `what` (`key file`), at most `max_bytes` of them.
///
/// On Unix the file belongs to root or to the process's effective user, its group may not write it, and others
/// have no right to it at all. Symbolic links are followed, as mounted secrets have them: the rules are for the
/// file at their end.
///
/// # Errors
///
/// `Provider`, naming the file and what to do.
pub(super) fn read(what: &str, path: &Path, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>> {
    read_by(Rule::OwnersAlone, what, path, max_bytes)
}

/// The same of a file whose owner and mode are others' business: certificates, or what Kubernetes puts into a pod.
///
/// # Errors
///
/// `Provider`, naming the file and what to do.
#[cfg(feature = "vault-transit")]
pub(super) fn read_of_anyone(what: &str, path: &Path, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>> {
    read_by(Rule::Anyones, what, path, max_bytes)
}

/// Whose a file may be, and who may read it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    OwnersAlone,
    #[cfg(feature = "vault-transit")]
    Anyones,
}

fn read_by(rule: Rule, what: &str, path: &Path, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |doing: &str, error: io::Error| {
        Error::new(ErrorKind::Provider, format!("{what} {path:?} can't be {doing}: {error}"))
    };
    // Before it is opened: to open a device can do something. Once more afterwards, as it may be another by then.
    check(rule, what, path, &std::fs::metadata(path).map_err(|error| failed("found", error))?, max_bytes)?;
    let mut file = open(path).map_err(|error| failed("opened", error))?;
    check(rule, what, path, &file.metadata().map_err(|error| failed("read", error))?, max_bytes)?;

    // One buffer, never grown, so that no copy stays behind; one byte more than allowed tells that there is more.
    let mut bytes = Zeroizing::new(vec![0; max_bytes + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed("read", error)),
        }
    }
    if length > max_bytes {
        return Err(too_large(what, path, max_bytes));
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // A pipe that took the file's place since the check must not make this wait for a writer.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options.open(path)
}

fn check(rule: Rule, what: &str, path: &Path, metadata: &Metadata, max_bytes: usize) -> Result<()> {
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::Provider, format!("{what} {path:?} is not a regular file")));
    }
    if metadata.len() > max_bytes as u64 {
        return Err(too_large(what, path, max_bytes));
    }
    if rule == Rule::OwnersAlone {
        #[cfg(unix)]
        check_rights(what, path, metadata)?;
    }
    Ok(())
}

#[cfg(unix)]
fn check_rights(what: &str, path: &Path, metadata: &Metadata) -> Result<()> {
    use std::os::unix::fs::MetadataExt;

    let process = rustix::process::geteuid().as_raw();
    match objection(path, metadata.uid(), process, metadata.mode()) {
        None => Ok(()),
        Some(objection) => Err(Error::new(ErrorKind::Provider, format!("{what} {path:?} {objection}"))),
    }
}

/// What is wrong with a file of user `owner` and of `mode`, for a process of user `process`, and what to do.
#[cfg(unix)]
fn objection(path: &Path, owner: u32, process: u32, mode: u32) -> Option<String> {
    /// The group's right to write, and all rights of others.
    const FORBIDDEN: u32 = 0o027;

    if owner != 0 && owner != process {
        return Some(format!(
            "belongs to user {owner}, neither to root nor to this process's user {process}: \
             `chown {process} {path:?}`"
        ));
    }
    (mode & FORBIDDEN != 0).then(|| {
        format!(
            "has mode {:04o}; its group may not write it and others may do nothing: `chmod 600 {path:?}` (640 \
             for a group that reads it; `defaultMode: 0440` for a mounted secret)",
            mode & 0o7777
        )
    })
}

fn too_large(what: &str, path: &Path, max_bytes: usize) -> Error {
    Error::new(
        ErrorKind::Provider,
        format!("{what} {path:?} has more than {max_bytes} bytes: it is another file"),
    )
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    const MAX_BYTES: usize = 100;

    fn file(directory: &TempDir, text: &str, mode: u32) -> PathBuf {
        let path = directory.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    fn refused(path: &Path) -> String {
        let error = read("key file", path, MAX_BYTES).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.to_string().contains(&format!("{path:?}")), "{error}");
        error.to_string()
    }

    #[test]
    fn each_of_the_512_modes_is_judged_by_the_rule() {
        let path = Path::new("/secret");
        for mode in 0..0o1000 {
            let allowed = mode & 0o020 == 0 && mode & 0o007 == 0;
            for (owner, process) in [(0, 0), (0, 1000), (1000, 1000)] {
                assert_eq!(objection(path, owner, process, 0o100_000 | mode).is_none(), allowed);
            }
            for (owner, process) in [(1000, 0), (1000, 1001)] {
                assert!(objection(path, owner, process, mode).is_some());
            }
        }
    }

    #[test]
    fn files_are_judged_by_their_mode() {
        let directory = TempDir::new().unwrap();
        for mode in [0o400, 0o600, 0o640, 0o440, 0o700] {
            let bytes = read("key file", &file(&directory, "text", mode), MAX_BYTES).unwrap();
            assert_eq!(*bytes, b"text", "{mode:o}");
            fs::remove_file(directory.path().join("secret")).unwrap();
        }
        for mode in [0o644, 0o660, 0o620, 0o604, 0o602, 0o601, 0o666, 0o777] {
            let message = refused(&file(&directory, "text", mode));
            assert!(message.contains(&format!("mode {mode:04o}")), "{message}");
            assert!(message.contains("chmod 600"), "{message}");
            fs::remove_file(directory.path().join("secret")).unwrap();
        }
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        let directory = TempDir::new().unwrap();
        let path = file(&directory, "text", 0o600);
        // Only root can give a file away; for others the rule itself is tested above.
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(65_534), None).unwrap();
            let message = refused(&path);
            assert!(message.contains("belongs to user 65534"), "{message}");
        }
    }

    #[test]
    fn symbolic_links_are_followed_as_mounted_secrets_have_them() {
        let directory = TempDir::new().unwrap();
        let version = directory.path().join("..2026_01_01");
        fs::create_dir(&version).unwrap();
        let target = version.join("key");
        fs::write(&target, "text").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o440)).unwrap();
        symlink("..2026_01_01", directory.path().join("..data")).unwrap();
        let link = directory.path().join("key");
        symlink("..data/key", &link).unwrap();
        assert_eq!(*read("key file", &link, MAX_BYTES).unwrap(), b"text");

        fs::set_permissions(&target, Permissions::from_mode(0o444)).unwrap();
        assert!(refused(&link).contains("mode 0444"));
        fs::remove_file(&target).unwrap();
        refused(&link);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting_for_it() {
        let directory = TempDir::new().unwrap();
        assert!(refused(directory.path()).contains("not a regular file"));
        assert!(refused(Path::new("/dev/zero")).contains("not a regular file"));
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from(0o600),
            0,
        )
        .unwrap();
        assert!(refused(&pipe).contains("not a regular file"));
        // Nor if it took a file's place after the check: opening alone does not wait for a writer.
        assert!(!open(&pipe).unwrap().metadata().unwrap().is_file());
        refused(&directory.path().join("nothing"));
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let directory = TempDir::new().unwrap();
        let path = file(&directory, &"x".repeat(MAX_BYTES), 0o600);
        assert_eq!(read("key file", &path, MAX_BYTES).unwrap().len(), MAX_BYTES);
        let path = file(&directory, &"x".repeat(MAX_BYTES + 1), 0o600);
        assert!(refused(&path).contains("more than 100 bytes"));
        // A terabyte that takes no room on the disk: it is neither read nor given memory.
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(refused(&path).contains("more than 100 bytes"));
    }
}
