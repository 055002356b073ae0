//! Master keys under a key of Azure Key Vault, on a double of Azure with keys that really wrap.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "azure_kv/mod.rs"]
mod azure_kv;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod double;
mod errors;
