//! Master keys under a key of Google Cloud KMS, on a double of it.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod double;
mod errors;
#[path = "gcp_kms/mod.rs"]
mod gcp_kms;
