//! A clock that tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use time::Duration;

use crate::clock::Clock;

/// The database's clock, ahead or behind by an offset that a test moves, for all clones of it.
///
/// It moves what the vault schedules: the age of keys and the leases of jobs. A credential's expiry is the service's to
/// compare, by a clock of its own.
///
/// ```
/// use credvault::test_util::{self, ManualClock, MemoryKey};
/// use time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> credvault::Result<()> {
/// let clock = ManualClock::default();
/// let vault =
///     test_util::in_memory().clock(clock.clone()).master_key_provider(MemoryKey::generate()?).build().await?;
///
/// assert!(vault.rotation().run().await?.new_keys.is_empty(), "the key is new");
/// clock.advance(Duration::days(91));
/// assert_eq!(vault.rotation().run().await?.new_keys.len(), 1, "it is older than 90 days");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Moves the clock forward, for all clones of it; backward with a negative duration.
    pub fn advance(&self, by: Duration) {
        let microseconds = i64::try_from(by.whole_microseconds()).unwrap_or(i64::MAX);
        self.0.fetch_add(microseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn offset(&self) -> Duration {
        Duration::microseconds(self.0.load(Ordering::SeqCst))
    }
}
