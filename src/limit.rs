//! Time limits: a database that no longer answers fails a call, and doesn't keep it for ever.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::error::{Error, ErrorKind, Result};

/// How long a call may take that reads or writes a few rows, unless a vault is opened with another limit: longer than a
/// request is waited for, or another's transaction should hold a row.
pub(crate) const CALL: Duration = Duration::from_secs(30);

/// How long a call may take that goes through the whole table: of a hundred million rows, a count takes minutes.
pub(crate) const TABLE: Duration = Duration::from_secs(30 * 60);

/// The standing timer ends once in this time at most. A call's limit that is shorter is no service's.
const STANDING: Duration = Duration::from_secs(1);

/// What a call gives within its limit; after that it is dropped where it stands, as its caller may drop it, too.
///
/// # Errors
///
/// Those of the call; `Store`, retryable, when its time is over.
pub(crate) async fn within<T>(limit: Duration, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        let what = format!(
            "no answer within {} s from the database, or from what holds the master key",
            limit.as_secs_f64()
        );
        Err(Error::new(ErrorKind::Store, what).retryable())
    })
}

/// A timer that stands as long as this does, and ends before that of a call.
///
/// To begin a timer that ends before all others, tokio wakes up the thread that waits for the next one. Where there is no
/// other, each call would do that, for a fifth more of the time that a get takes.
#[derive(Debug)]
pub(crate) struct StandingTimer {
    // Ends with it.
    _task: JoinSet<()>,
}

impl StandingTimer {
    /// For calls with this limit; of the runtime that this is called on.
    pub(crate) fn start(limit: Duration) -> Self {
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut soon = tokio::time::interval((limit / 2).max(STANDING));
            loop {
                soon.tick().await;
            }
        });
        Self { _task: task }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_ends_fails_when_its_time_is_over_and_may_be_made_again() {
        let began = tokio::time::Instant::now();
        let error = within(CALL, std::future::pending::<Result<()>>()).await.unwrap_err();
        assert_eq!(began.elapsed(), CALL);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true));
        assert_eq!(
            error.to_string(),
            "no answer within 30 s from the database, or from what holds the master key"
        );
    }
}
