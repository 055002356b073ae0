//! Counts the statements that sqlx runs, by the events that it traces, on either store.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, Once};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Instrument, Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// The name of the spans under which statements are counted.
const COUNTED: &str = "counted";

/// The statements run so far under each span.
static STATEMENTS: Mutex<Option<HashMap<u64, Vec<String>>>> = Mutex::new(None);

/// A span under which statements are counted; tasks that are to count carry it, by [`Instrument`].
pub fn counted() -> Span {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Counter)).unwrap();
    });
    tracing::info_span!("counted")
}

/// The statements that were run under a span.
pub fn statements_of(span: &Span) -> Vec<String> {
    let id = span.id().expect("the span is not recorded").into_u64();
    let statements = STATEMENTS.lock().unwrap();
    statements.as_ref().and_then(|all| all.get(&id).cloned()).unwrap_or_default()
}

/// What `work` gives, and the span that its statements are counted under.
pub async fn counting<T>(work: impl Future<Output = T>) -> (T, Span) {
    let span = counted();
    (work.instrument(span.clone()).await, span)
}

struct Counter;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Counter {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        if attributes.metadata().name() == COUNTED {
            STATEMENTS.lock().unwrap().get_or_insert_default().insert(id.into_u64(), Vec::new());
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let mut statement = Statement::default();
        event.record(&mut statement);
        let spans = context.event_scope(event).into_iter().flatten();
        for span in spans.filter(|span| span.name() == COUNTED) {
            let mut statements = STATEMENTS.lock().unwrap();
            let of_span = statements.get_or_insert_default().entry(span.id().into_u64()).or_default();
            of_span.push(statement.text());
        }
    }
}

#[derive(Default)]
struct Statement {
    summary: String,
    whole: String,
}

impl Statement {
    /// The whole statement, which sqlx leaves out where it is no longer than its summary.
    fn text(&self) -> String {
        if self.whole.trim().is_empty() { self.summary.clone() } else { self.whole.trim().to_owned() }
    }
}

impl Visit for Statement {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => self.summary = value.to_owned(),
            "db.statement" => self.whole = value.to_owned(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
