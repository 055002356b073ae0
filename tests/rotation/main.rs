//! Rotation of data keys and rewrap of the master key, beside everything that may happen meanwhile.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a function of a test that fails fails the test"
)]

#[path = "../common/mod.rs"]
mod common;

mod concurrent_writes;
mod interrupted;
mod lease;
mod legacy_rows;
mod pages;
mod quarantine;
mod rewrap;
