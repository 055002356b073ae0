//! Rotation of data keys and rewrap of the master key, beside everything that may happen meanwhile.

#[path = "../common/mod.rs"]
mod common;

mod concurrent_writes;
mod interrupted;
mod late_writers;
mod lease;
mod legacy_rows;
mod pages;
mod quarantine;
mod rewrap;
mod server;
