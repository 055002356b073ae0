//! Tests in their long form.

/// The variable that asks for the long form of tests that run a shortened one by default; `tests/faults/run` sets it.
const LONG: &str = "CREDVAULT_LONG_TESTS";

/// One of two forms of a test: the short one, unless the long one is asked for.
pub fn short_or_long<T>(short: T, long: T) -> T {
    if std::env::var_os(LONG).is_some() { long } else { short }
}
