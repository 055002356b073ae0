//! What a vault does when its database fails: each fault ends in success after retries, or in a clear error in good time;
//! what was acknowledged is there, and no session stays in a transaction.
#![allow(unreachable_pub, reason = "a harness is written as the library that it is")]

#[path = "../common/mod.rs"]
mod common;

mod calls;
#[cfg(target_os = "linux")]
mod disk_full;
mod migrations;
mod process_killed;
mod replica;
mod role_settings;
mod sessions;
mod sqlite_file;
mod unreachable;
