//! Attempts: what failed in a way that may be over is tried again, as long as a server takes that starts again.

use std::time::Duration;

use super::stop::Stop;
use crate::crypto::random;
use crate::error::{ErrorKind, Result};

/// How often a call is made whose database failed in a way that may be over: about six seconds, which a server that starts
/// again takes, and more often than a pool of ours has connections, each of which may have died.
const ATTEMPTS: u32 = 12;

/// The pause before the second attempt; each later one is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Makes a call again that failed in a way that may be over, unless the run is asked to stop: one that changes nothing by
/// being made twice.
///
/// # Errors
///
/// Those of the call.
pub(super) async fn retrying<T, F>(stop: &Stop, mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(error) if error.kind() == ErrorKind::Store && error.is_retryable() => {
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
    call().await
}
