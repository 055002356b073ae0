//! Programs of tests.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A program of a test: what it does is text of `sh`, and each run of it counts.
pub(super) struct Program(TempDir);

impl Program {
    /// The program of this text, in which `$folder` is the folder that it is in.
    pub(super) fn new(text: &str) -> Self {
        let program = Self(TempDir::with_prefix("credvault-exec-").unwrap());
        let folder = program.folder().display();
        let text = format!("#!/bin/sh\nfolder='{folder}'\necho >>\"$folder/runs\"\n{text}\n");
        fs::write(program.path(), text).unwrap();
        fs::set_permissions(program.path(), Permissions::from_mode(0o700)).unwrap();
        program
    }

    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }

    fn path(&self) -> PathBuf {
        self.folder().join("program")
    }

    pub(super) fn spec(&self) -> String {
        format!("exec:{}", self.path().display())
    }

    pub(super) fn runs(&self) -> usize {
        fs::read_to_string(self.folder().join("runs")).unwrap_or_default().lines().count()
    }

    pub(super) fn forget_runs(&self) {
        let _ = fs::remove_file(self.folder().join("runs"));
    }
}
