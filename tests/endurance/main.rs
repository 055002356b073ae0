//! What a vault must stand for long: writers beside rotators, processes that are killed or stopped at any moment, a server
//! that dies.
#![allow(unreachable_pub, reason = "a harness is written as the library that it is")]

#[path = "../common/mod.rs"]
mod common;

mod killed;
mod rotator;
#[cfg(target_os = "linux")]
mod server_killed;
mod stopped;
mod writers;
