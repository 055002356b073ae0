//! The sample with a key of its own, behind a program that fails as it is told.

use std::fs;
use std::sync::Arc;

use credvault::ErrorKind;
use credvault::provider::MasterKeyProvider;
use uuid::Uuid;

use super::program::Program;
use crate::conformance::{Counterpart, Recorded, Service, Weather};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/exec_provider/wrap.py");

/// The sample; before it, what the file `weather` says, so often.
const TEXT: &str = r#"
if read -r what count 2>/dev/null <"$folder/weather" && [ "$count" -gt 0 ]; then
    # In one step: another run may read it now.
    echo "$what $((count - 1))" >"$folder/weather.$$" && mv "$folder/weather.$$" "$folder/weather"
    fail() { cat >/dev/null; echo '{"version":1,"error":{"kind":"'"$1"'","message":"told to"}}'; }
    case $what in
    Throttled) fail throttled ;;
    Away) fail unavailable ;;
    Silent) exec sleep 600 ;;
    Denied) fail denied ;;
    Wrong) cat >/dev/null; echo '{"version":1,"key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}' ;;
    esac
    exit
fi
CREDVAULT_EXEC_KEY_FILE="$folder/key" exec python3 "#;

pub(crate) struct Sample(Program);

impl Sample {
    fn key(&self) -> Vec<u8> {
        fs::read(self.0.folder().join("key")).unwrap()
    }

    fn say(&self, weather: &str) {
        fs::write(self.0.folder().join("weather"), format!("{weather}\n")).unwrap();
    }
}

impl Counterpart for Sample {
    const KIND: &'static str = "exec";
    /// The sample can't tell another key from an altered record.
    const ANOTHER_KEY: ErrorKind = ErrorKind::Malformed;

    async fn fresh() -> Self {
        let program = Program::new(&format!("{TEXT}'{SAMPLE}'"));
        let key = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        fs::write(program.folder().join("key"), key).unwrap();
        Self(program)
    }

    fn spec(&self) -> String {
        self.0.spec()
    }

    fn impostor(&self) -> Arc<dyn MasterKeyProvider> {
        self.say("Wrong 1");
        self.provider()
    }

    fn secrets(&self) -> Vec<Vec<u8>> {
        vec![self.key()]
    }
}

impl Recorded for Sample {
    const ALTERED: ErrorKind = ErrorKind::Malformed;
}

impl Service for Sample {
    fn weather(&self, weather: Weather, calls: usize) {
        self.say(&format!("{weather:?} {calls}"));
    }

    fn take_calls(&self) -> usize {
        let runs = self.0.runs();
        self.0.forget_runs();
        runs
    }
}
