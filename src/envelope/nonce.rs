//! Nonces: drawn, used once, never chosen.

use crate::crypto::random;
use crate::crypto::xaes::NONCE_BYTES;
use crate::error::Result;

/// A nonce from the operating system's generator; sealing consumes it.
#[derive(Debug)]
pub(crate) struct Nonce([u8; NONCE_BYTES]);

impl Nonce {
    /// One nonce.
    ///
    /// # Errors
    ///
    /// `Provider` if the operating system's generator fails.
    pub(crate) fn draw() -> Result<Self> {
        let mut bytes = [0; NONCE_BYTES];
        random::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// `count` nonces by one call of the generator, which costs more than sealing a row does.
    ///
    /// # Errors
    ///
    /// `Provider` if the operating system's generator fails.
    pub(crate) fn draw_many(count: usize) -> Result<Vec<Self>> {
        let mut nonces = vec![[0; NONCE_BYTES]; count];
        random::fill(nonces.as_flattened_mut())?;
        Ok(nonces.into_iter().map(Self).collect())
    }

    pub(super) fn into_bytes(self) -> [u8; NONCE_BYTES] {
        self.0
    }

    /// The nonce of a vector.
    #[cfg(test)]
    pub(super) fn chosen(bytes: [u8; NONCE_BYTES]) -> Self {
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_nonce_is_drawn_twice() {
        let mut nonces = Nonce::draw_many(1_000).unwrap();
        nonces.push(Nonce::draw().unwrap());
        nonces.push(Nonce::draw().unwrap());
        let distinct: HashSet<_> = nonces.into_iter().map(Nonce::into_bytes).collect();
        assert_eq!(distinct.len(), 1_002);
        assert!(!distinct.contains(&[0; NONCE_BYTES]));
    }
}
