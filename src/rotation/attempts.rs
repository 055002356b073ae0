//! Attempts: what failed in a way that may be over is tried again, as long as a server takes that starts again.

use std::time::Duration;

use tokio::time::Instant;

use super::stop::Stop;
use crate::crypto::random;
use crate::error::{Error, ErrorKind, Result};
use crate::limit::{self, within};

/// How long a call is made again: as long as a lease lasts without being renewed. After it another run may have taken over.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a call is made whose database failed in a way that may be over: about six seconds, which a server that starts
/// again takes, and more often than a pool of ours has connections, each of which may have died.
const ATTEMPTS: u32 = 12;

/// The pause before the second attempt; each later one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Makes a call again that failed in a way that may be over, unless the run is asked to stop: one that changes nothing by
/// being made twice. Each time it has as long as what goes through the whole table.
///
/// # Errors
///
/// Those of the call.
pub(super) async fn retrying<T, F>(stop: &Stop, mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut pause = FIRST_PAUSE;
    let began = Instant::now();
    for _ in 1..ATTEMPTS {
        match within(limit::TABLE, call()).await {
            Err(error) if may_be_over(&error) && began.elapsed() < PATIENCE => {
                tracing::warn!(%error, "trying again");
                // Half of it or more, so that many that failed at once don't come back at once.
                let mut random = [0];
                random::fill(&mut random)?;
                stop.sleep(pause.mul_f64(0.5 + f64::from(random[0]) / 512.0)).await;
                if stop.is_asked() {
                    return Err(error);
                }
                pause = (pause * 2).min(MAX_PAUSE);
            }
            result => return result,
        }
    }
    within(limit::TABLE, call()).await
}

/// Whether the database failed in a way that may be over.
pub(super) fn may_be_over(error: &Error) -> bool {
    error.kind() == ErrorKind::Store && error.is_retryable()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// How often a call is made that takes so long, and then fails so.
    async fn attempts(takes: Duration, error: fn() -> Error) -> (u32, Duration) {
        let (made, began) = (Cell::new(0), Instant::now());
        let call = || async {
            made.set(made.get() + 1);
            tokio::time::sleep(takes).await;
            Err::<(), _>(error())
        };
        retrying(&Stop::default(), call).await.unwrap_err();
        (made.get(), began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_made_again_only_if_its_error_may_be_over_so_often_and_for_so_long() {
        let away = || Error::new(ErrorKind::Store, "the database is away").retryable();
        let (made, took) = attempts(Duration::ZERO, away).await;
        assert_eq!(made, ATTEMPTS);
        assert!((Duration::from_secs(4)..Duration::from_secs(9)).contains(&took), "{took:?}");
        // A database that refuses after a while, and one that never answers.
        let (made, took) = attempts(Duration::from_secs(20), away).await;
        assert_eq!(made, 3, "{took:?}");
        let (made, took) = attempts(Duration::MAX, away).await;
        assert_eq!((made, took), (1, limit::TABLE));
        for final_error in [
            || Error::new(ErrorKind::Store, "read-only"),
            || Error::new(ErrorKind::LeaseLost, "another has taken over"),
            || Error::new(ErrorKind::Provider, "away").retryable(),
        ] {
            assert_eq!(attempts(Duration::ZERO, final_error).await.0, 1);
        }
    }
}
