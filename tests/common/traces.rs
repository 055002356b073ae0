//! Everything that is traced in this process, to be searched.

use std::io::Write;
use std::sync::{Mutex, Once};

use tracing_subscriber::fmt::format::FmtSpan;

static TRACE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct IntoTrace;

impl Write for IntoTrace {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        TRACE.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Traces all that anyone says, spans and their fields too.
pub fn trace_everything() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(|| IntoTrace)
            .init();
    });
}

/// What was traced so far.
pub fn traced() -> Vec<u8> {
    TRACE.lock().unwrap().clone()
}
