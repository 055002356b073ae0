//! Master keys under a key of a transit engine, on OpenBao, and a double in front of it.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod double;
mod errors;
#[path = "vault_transit/mod.rs"]
mod vault_transit;
