//! Master keys under a key of AWS KMS, on moto and a double.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "aws_kms/mod.rs"]
mod aws_kms;
#[path = "../common/mod.rs"]
mod common;
mod conformance;
mod double;
mod errors;
