//! Master keys under a program of one's own: the sample of `examples`, and programs that misbehave.
#![allow(clippy::unwrap_used, reason = "a function of a test that fails fails the test")]

#[path = "../common/mod.rs"]
mod common;
mod conformance;
#[path = "exec/mod.rs"]
mod exec;
