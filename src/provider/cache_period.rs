//! How long an unlocked key is used without its key service.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

/// How long a master key of a key service is used before the service is asked again, and how long at most while it
/// doesn't answer, or refuses.
///
/// One period is one call for each process, whatever it reads and writes. The ceiling is how long an outage of the service
/// may last without an outage of yours, and how long a key still opens after it was taken away: the same time, weighed
/// once. By default an hour, and a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachePeriod {
    renewed_after: Duration,
    ceiling: Duration,
}

impl CachePeriod {
    /// Asked again once `renewed_after` is over, and used for `ceiling` at most after the service last gave the key.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless the first is a second or more, and the ceiling as long or longer, up to 30 days.
    pub fn new(renewed_after: Duration, ceiling: Duration) -> Result<Self> {
        if renewed_after < Self::SHORTEST || ceiling < renewed_after || ceiling > Self::LONGEST {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "a master key is asked for again after a second or more, and used as long or longer than that, for 30 days \
                 at most",
            ));
        }
        Ok(Self { renewed_after, ceiling })
    }

    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

    /// When the service is asked again.
    #[must_use]
    pub const fn renewed_after(&self) -> Duration {
        self.renewed_after
    }

    /// How long the key is used at most.
    #[must_use]
    pub const fn ceiling(&self) -> Duration {
        self.ceiling
    }
}

impl Default for CachePeriod {
    fn default() -> Self {
        Self { renewed_after: Duration::from_secs(3_600), ceiling: Duration::from_secs(24 * 3_600) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_is_never_below_the_period() {
        let seconds = Duration::from_secs;
        assert!(CachePeriod::new(seconds(1), seconds(1)).is_ok());
        for (period, ceiling) in [(0, 1), (2, 1), (1, 30 * 24 * 3_600 + 1)] {
            let error = CachePeriod::new(seconds(period), seconds(ceiling)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }
}
