//! Passphrases in files.

use std::sync::Arc;

use credvault::ErrorKind;
use credvault::provider::{self, MasterKeyProvider};
use uuid::Uuid;

use crate::common::KeyFiles;
use crate::conformance::{Counterpart, Recorded};

pub(crate) struct Words {
    folder: KeyFiles,
    words: String,
}

impl Counterpart for Words {
    const KIND: &'static str = "passphrase";
    /// Any passphrase gives a key.
    const ANOTHER_KEY: ErrorKind = ErrorKind::KeyMismatch;

    async fn fresh() -> Self {
        let (folder, words) = (KeyFiles::new(), format!("hunter2 of {}", Uuid::new_v4()));
        folder.write("passphrase", &words);
        Self { folder, words }
    }

    fn spec(&self) -> String {
        format!("passphrase:{}", self.folder.spec("passphrase"))
    }

    fn impostor(&self) -> Arc<dyn MasterKeyProvider> {
        let other = self.folder.write("other", &self.words.to_uppercase());
        provider::from_spec(&format!("passphrase:{other}")).unwrap()
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        vec![self.words.clone().into_bytes()]
    }
}

impl Recorded for Words {
    /// Another salt gives another key.
    const ALTERED: ErrorKind = ErrorKind::KeyMismatch;
}
