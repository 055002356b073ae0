//! The stored format: how credentials and data keys are sealed, bound to their place, and written as text.
//!
//! ```text
//! text  "cv1." base64url( header | commitment (wrapped keys only) | ciphertext | tag )
//! ```

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod canonical;
mod context;
mod header;
mod legacy;
mod nonce;
mod payload;
mod row;
mod text;
mod wrapped_key;

pub(crate) use context::{RowContext, WrapContext};
pub(crate) use nonce::Nonce;
pub(crate) use row::{key_of, key_of_beginning, open_credential, reencrypt, seal_credential};
pub(crate) use wrapped_key::{unwrap_key, wrap_key, wrapping_key_of};

#[cfg(test)]
#[cfg(target_os = "linux")]
mod leaks;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod vectors;
