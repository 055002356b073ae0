//! Keys in variables, which a process has from its beginning, and for each another one of the same id.

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use credvault::ErrorKind;
use credvault::provider::{self, MasterKeyProvider};

use super::key_file::{another_of_its_id, secrets};
use crate::common::KeyFiles;
use crate::conformance::Counterpart;

/// More than a claim asks for.
const KEYS: usize = 4;

pub(crate) struct Variable(usize);

fn name(key: usize) -> String {
    format!("CREDVAULT_TEST_KEY_{key}")
}

fn impostors_name(key: usize) -> String {
    format!("CREDVAULT_TEST_IMPOSTOR_{key}")
}

impl Counterpart for Variable {
    const KIND: &'static str = "environment";
    const ANOTHER_KEY: ErrorKind = ErrorKind::KeyUnavailable;

    fn variables() -> Vec<(String, String)> {
        let keys = KeyFiles::new();
        let of = |at| {
            let file = format!("{at}.key");
            keys.generate(&file);
            let key = keys.key(&file);
            [(name(at), key.line()), (impostors_name(at), another_of_its_id(key).line())]
        };
        (0..KEYS).flat_map(of).collect()
    }

    async fn fresh() -> Self {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        Self(TAKEN.fetch_add(1, Ordering::Relaxed))
    }

    fn spec(&self) -> String {
        format!("env:{}", name(self.0))
    }

    fn impostor(&self) -> Arc<dyn MasterKeyProvider> {
        provider::from_spec(&format!("env:{}", impostors_name(self.0))).unwrap()
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        let keys = KeyFiles::new();
        keys.write("same.key", &env::var(name(self.0)).unwrap());
        secrets(&keys.key("same.key"))
    }
}
