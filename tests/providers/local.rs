//! Master keys from a file, a variable and a passphrase, which need nothing but this process.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, unused_imports, unused_macros, reason = "what holds for services alone is theirs")]
mod conformance;

mod local {
    pub(crate) mod environment;
    pub(crate) mod key_file;
    pub(crate) mod passphrase;
}

mod environment {
    crate::conformance::conformance!(crate::local::environment::Variable: keys);
}
mod key_file {
    crate::conformance::conformance!(crate::local::key_file::File: keys);
}
mod passphrase {
    crate::conformance::conformance!(crate::local::passphrase::Words: keys, records);
}
