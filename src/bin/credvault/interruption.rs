//! SIGTERM and Ctrl-C, for a job that ends in good order.

use std::io;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;

use crate::failure::Exit;

/// How long the process has after a signal: less than the five seconds that are promised, and more than a rotation takes,
/// whatever its database does. Whatever else it then waits for, a pipe that nobody reads for one, is given up.
const DEADLINE: Duration = Duration::from_millis(4_800);

/// The wish to stop, from outside.
pub(crate) struct Interruption(watch::Receiver<bool>);

impl Interruption {
    /// Listens from now on, in place of being killed. After the first signal the process has five seconds; Ctrl-C ends it at
    /// once then.
    ///
    /// # Errors
    ///
    /// If the operating system allows no handlers.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let mut signals = Signals::install().context("signals can't be listened to")?;
        let (say, asked) = watch::channel(false);
        tokio::spawn(async move {
            signals.first().await;
            // Without a receiver the job is over.
            let _ = say.send(true);
            // Either way it is over.
            let _ = tokio::time::timeout(DEADLINE, signals.ctrl_c()).await;
            std::process::exit(Exit::WorkRemains as i32);
        });
        Ok(Self(asked))
    }

    /// Ready once there was a signal.
    pub(crate) fn asked(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut asked = self.0.clone();
        async move {
            if asked.wait_for(|asked| *asked).await.is_err() {
                // The task that listens has ended with the runtime.
                std::future::pending().await
            }
        }
    }

    /// What `work` gives; `None`, and `work` dropped, if there is a signal before it does.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = work => Some(result),
            () = self.asked() => None,
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn first(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    async fn ctrl_c(&mut self) {
        self.interrupt.recv().await;
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn install() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn first(&mut self) {
        self.0.recv().await;
    }

    async fn ctrl_c(&mut self) {
        self.0.recv().await;
    }
}
