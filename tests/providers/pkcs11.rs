//! Master keys under a key of a PKCS#11 token, on SoftHSM 2.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod errors;
#[path = "pkcs11/mod.rs"]
mod pkcs11;
