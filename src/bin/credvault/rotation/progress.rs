//! What a rotation says while it runs: printed by a thread of its own, so that nobody who reads slowly holds it up.

use std::fmt;
use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use credvault::{Progress, RotationEvent};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use tokio::sync::oneshot;

use super::documents::Documents;
use super::prose::Prose;
use crate::arguments::Form;
use crate::{output, standard_streams};

/// How often it is looked whether there is something to say without an event.
const TICK: Duration = Duration::from_millis(100);

/// How long the end of a rotation waits for its last words: a pipe that nobody reads must not hold it up.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What the thread is told.
pub(super) enum Told {
    Event(RotationEvent),
    /// There was a signal.
    Stopping,
    End,
}

/// Who tells of a rotation.
pub(super) struct Teller {
    queue: Sender<Told>,
    /// Apart from the queue, where it would pile up.
    progress: Arc<Mutex<Progress>>,
    ended: oneshot::Receiver<()>,
}

/// Where it goes.
enum Outlet {
    /// A terminal: a bar, and lines above it.
    Bar(ProgressBar, Prose),
    /// Standard error that is none.
    Lines(Prose),
    /// Standard output, for a program.
    Documents(Documents),
}

impl Teller {
    /// Begins to tell of the rotation that `command` runs.
    pub(super) fn begin(command: &'static str, form: Form) -> Self {
        let outlet = match form {
            Form::Json => Outlet::Documents(Documents::of(command)),
            Form::Text if crate::shows_on_a_terminal() => Outlet::Bar(bar(), Prose::beside_a_bar()),
            Form::Text => Outlet::Lines(Prose::alone(Instant::now())),
        };
        let (queue, told) = channel();
        let progress = Arc::default();
        let (say, ended) = oneshot::channel();
        let shown = Arc::clone(&progress);
        std::thread::spawn(move || {
            tell(outlet, &told, &shown);
            // Nobody waits for it any more where this fails.
            let _ = say.send(());
        });
        Self { queue, progress, ended }
    }

    /// What the rotation calls at each event.
    pub(super) fn listener(&self) -> impl Fn(RotationEvent) + Send + Sync + 'static {
        let (queue, shown) = (self.queue.clone(), Arc::clone(&self.progress));
        move |event| match event {
            RotationEvent::Progress(progress) => {
                *shown.lock().unwrap_or_else(PoisonError::into_inner) = progress;
            }
            // After the end there is nobody to tell.
            event => drop(queue.send(Told::Event(event))),
        }
    }

    /// What is called at a signal.
    pub(super) fn stopping(&self) -> impl FnOnce() + Send + 'static {
        let queue = self.queue.clone();
        move || drop(queue.send(Told::Stopping))
    }

    /// Ends once all is said, or nobody listens.
    pub(super) async fn end(self) {
        // As above.
        let _ = self.queue.send(Told::End);
        let _ = tokio::time::timeout(LAST_WORDS, self.ended).await;
    }
}

fn tell(mut outlet: Outlet, told: &Receiver<Told>, progress: &Mutex<Progress>) {
    loop {
        match told.recv_timeout(TICK) {
            Ok(Told::End) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(told) => outlet.hear(&told),
            Err(RecvTimeoutError::Timeout) => {}
        }
        outlet.look_at(*progress.lock().unwrap_or_else(PoisonError::into_inner));
    }
    if let Outlet::Bar(bar, _) = outlet {
        bar.finish_and_clear();
    }
}

impl Outlet {
    fn hear(&mut self, told: &Told) {
        let now = Instant::now();
        match self {
            Self::Bar(bar, prose) => {
                if let Some(line) = prose.hear(told, now) {
                    bar.println(line);
                }
            }
            Self::Lines(prose) => print_line(prose.hear(told, now)),
            Self::Documents(documents) => print_document(documents.hear(told)),
        }
    }

    fn look_at(&mut self, progress: Progress) {
        let now = Instant::now();
        match self {
            Self::Bar(bar, prose) => {
                if let Some(line) = prose.look_at(progress, now) {
                    bar.println(line);
                }
                if progress != Progress::default() {
                    bar.set_length(progress.stale.max(progress.re_encrypted));
                    bar.set_position(progress.re_encrypted);
                }
            }
            Self::Lines(prose) => print_line(prose.look_at(progress, now)),
            Self::Documents(documents) => print_document(documents.look_at(progress, now)),
        }
    }
}

/// Prints a line for people; with standard error closed there is nobody to tell.
fn print_line(line: Option<String>) {
    if let Some(line) = line {
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

/// Prints a document for a program; the rotation goes on without a reader.
fn print_document(document: Option<String>) {
    if let Some(document) = document {
        let _ = standard_streams::write(document.as_bytes());
    }
}

fn bar() -> ProgressBar {
    let bar = output::progress("Re-encrypting", 0);
    let template = "{msg:14} {bar:30} {human_pos}/{human_len} rows, {rate} a second, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
            // There is nowhere to say that a bar could not be drawn.
            let _ = write!(text, "{:.0}", state.per_sec());
        };
        bar.set_style(style.with_key("rate", rate));
    }
    bar
}
