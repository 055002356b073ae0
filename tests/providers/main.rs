//! Providers of master keys against what they are made for.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "../common/mod.rs"]
mod common;
mod pkcs11;
