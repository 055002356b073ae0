//! A key file, and another one whose key has the same id.

use std::sync::Arc;

use credvault::ErrorKind;
use credvault::provider::{self, MasterKeyProvider};

use crate::common::KeyFiles;
use crate::common::vault::MasterKeyParts;
use crate::conformance::Counterpart;

const NAME: &str = "master.key";

pub(crate) struct File(KeyFiles);

/// Another key that takes itself for `key`.
pub(super) fn another_of_its_id(key: MasterKeyParts) -> MasterKeyParts {
    MasterKeyParts { key: key.key.map(|byte| byte ^ 1), ..key }
}

/// The key, and what its line shows of it: the characters behind those of the id.
pub(super) fn secrets(key: &MasterKeyParts) -> Vec<Vec<u8>> {
    let line = key.line();
    let of_the_key = "cvmk1_".len() + 22;
    vec![key.key.to_vec(), line.trim().as_bytes()[of_the_key..].to_vec()]
}

impl Counterpart for File {
    const KIND: &'static str = "key-file";
    const ANOTHER_KEY: ErrorKind = ErrorKind::KeyUnavailable;

    async fn fresh() -> Self {
        let keys = KeyFiles::new();
        keys.generate(NAME);
        Self(keys)
    }

    fn spec(&self) -> String {
        self.0.spec(NAME)
    }

    fn impostor(&self) -> Arc<dyn MasterKeyProvider> {
        let line = another_of_its_id(self.0.key(NAME)).line();
        provider::from_spec(&self.0.write("impostor.key", &line)).unwrap()
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        secrets(&self.0.key(NAME))
    }
}
