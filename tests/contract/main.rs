//! The contract: what every documented call does and which kind of error it gives, on both stores.
#![cfg(all(feature = "postgres", feature = "sqlite"))]

#[path = "../common/mod.rs"]
mod common;

mod closing;
mod compromise;
mod credentials;
mod hostile_values;
mod limits;
mod listing;
mod master_key_check;
mod opening;
mod organization_keys;
mod organization_master_keys;
mod passphrase;
mod quarantine;
mod refresh;
mod transactions;
mod transfer;
mod walk;
