//! The command `credvault`, the built one, on both stores: what it does, prints and refuses, and its exit codes.
#![allow(clippy::panic, clippy::unwrap_used, unreachable_pub, reason = "a harness that fails fails the test")]

#[path = "../common/mod.rs"]
mod common;

mod credentials;
mod demo;
mod jobs;
mod refusals;
mod shell;
mod vaults;
