//! Asking a key service: each time within a limit, again where it may help, a few times at most.

use std::time::Duration;

use crate::crypto::random;
use crate::error::{Error, ErrorKind, Result};

/// How long one answer may take: a service that is across an ocean and busy gives it in one.
const ANSWER: Duration = Duration::from_secs(5);

/// How often a service is asked, which takes 22 s at most: less than a call of the vault may take.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What a service answers, asked again while it fails in a way that may be over: by an error that is retryable, or by no
/// answer. What is asked must be harmless when asked twice.
///
/// # Errors
///
/// Those of the call; `Provider`, retryable, if it took too long.
pub(super) async fn asked<T, F>(service: &str, mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut pause = FIRST_PAUSE;
    for _ in 1..ATTEMPTS {
        match once(service, call()).await {
            Err(error) if error.kind() == ErrorKind::Provider && error.is_retryable() => {
                tracing::warn!(%error, service, "asking again");
                // Half of it or more, so that a fleet that was refused at once doesn't come back at once.
                let mut random = [0];
                random::fill(&mut random)?;
                tokio::time::sleep(pause.mul_f64(0.5 + f64::from(random[0]) / 512.0)).await;
                pause *= 2;
            }
            result => return result,
        }
    }
    once(service, call()).await
}

async fn once<T>(service: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(ANSWER, call).await.unwrap_or_else(|_| {
        let what = format!("no answer from {service} within {} s", ANSWER.as_secs());
        Err(Error::new(ErrorKind::Provider, what).retryable())
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    /// How often a service is asked that takes so long to fail so, and how long that takes.
    async fn attempts(takes: Duration, error: fn() -> Error) -> (u32, Duration, Error) {
        let (made, began) = (Cell::new(0), Instant::now());
        let call = || async {
            made.set(made.get() + 1);
            tokio::time::sleep(takes).await;
            Err::<(), _>(error())
        };
        let error = asked("the service", call).await.unwrap_err();
        (made.get(), began.elapsed(), error)
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_asked_again_only_where_it_may_help_and_not_for_long() {
        let throttled = || Error::new(ErrorKind::Provider, "throttled").retryable();
        let (made, took, _) = attempts(Duration::ZERO, throttled).await;
        assert_eq!(made, ATTEMPTS);
        assert!((Duration::from_millis(690)..Duration::from_millis(1_410)).contains(&took), "{took:?}");
        // A fleet that was refused at once doesn't come back at once.
        let mut others = Vec::new();
        for _ in 0..8 {
            others.push(attempts(Duration::ZERO, throttled).await.1);
        }
        assert!(others.iter().any(|other| other.abs_diff(took) > Duration::from_millis(10)), "{others:?}");

        let (made, took, error) = attempts(Duration::from_secs(60), throttled).await;
        assert_eq!((made, error.to_string().as_str()), (4, "no answer from the service within 5 s"));
        assert!(took < Duration::from_secs(22), "{took:?}");

        let denied: fn() -> Error = || Error::new(ErrorKind::Provider, "access denied");
        let gone: fn() -> Error = || Error::new(ErrorKind::KeyUnavailable, "no such key").retryable();
        for error in [denied, gone] {
            assert_eq!(attempts(Duration::ZERO, error).await.0, 1);
        }
    }
}
