//! Keys and the primitives under them; nothing here knows a row or a database.

pub(crate) mod kdf;
pub(crate) mod key;
pub(crate) mod key_bytes;
pub(crate) mod locked;
pub(crate) mod memory;
#[cfg(all(test, target_os = "linux"))]
pub(crate) mod memory_search;
pub(crate) mod process;
pub(crate) mod random;
pub(crate) mod subkeys;
pub(crate) mod xaes;
