//! The command `credvault`, the built one, on both stores: what it does, prints and refuses, and its exit codes.
#![allow(unreachable_pub, reason = "a harness is written as the library that it is")]

#[path = "../common/mod.rs"]
mod common;

mod adoption;
mod bulk;
#[cfg(target_os = "linux")]
mod bulk_memory;
mod cases;
mod credentials;
mod data_keys;
mod demo;
mod documents;
#[cfg(unix)]
mod hostile;
mod hostile_rows;
mod jobs;
mod lookups;
#[cfg(target_os = "linux")]
mod processes;
mod quarantine;
mod refusals;
mod roles;
mod rotation;
mod runs;
mod schedules;
mod shell;
#[cfg(target_os = "linux")]
mod signals;
mod status;
mod vaults;
mod verification;
