//! Rotation of data keys and rewrap of the master key, beside everything that may happen meanwhile.

#[path = "../common/mod.rs"]
mod common;

mod adoption;
mod compromise;
mod concurrent_writes;
mod destruction;
mod forced;
mod interrupted;
mod late_writers;
mod lease;
mod legacy_rows;
mod limits;
mod locked_rows;
mod organization_keys;
mod pages;
mod plan;
mod quarantine;
mod rewrap;
mod role_settings;
mod server;
