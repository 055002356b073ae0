//! Master keys under a program: the sample, held to the suite, and programs that misbehave.

pub(crate) mod counterpart;
mod program;
mod programs;

crate::conformance::conformance!(crate::exec::counterpart::Sample: keys, records, services);
