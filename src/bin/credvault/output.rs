//! What a command prints: a report as text or JSON, tables, and progress on a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::arguments::Form;
use crate::failure::Exit;
use crate::standard_streams;

/// The version of the JSON documents: a field may come, none goes or changes its meaning without another version.
const VERSION: u64 = 1;

/// What a command has to say, in both forms; wiped when dropped, as some of it may be secret.
pub(crate) struct Report {
    exit: Exit,
    text: Zeroizing<String>,
    json: Zeroizing<String>,
}

impl Report {
    /// A report of `command`; `fields` is a JSON object, none of it secret.
    pub(crate) fn new(command: &str, exit: Exit, text: String, fields: Value) -> Self {
        let mut document = json!({ "version": VERSION, "command": command });
        if let (Value::Object(document), Value::Object(fields)) = (&mut document, fields) {
            document.extend(fields);
        }
        Self { exit, text: text.into(), json: format!("{document}\n").into() }
    }

    /// A report with secrets, written out by the command itself.
    pub(crate) fn secret(text: Zeroizing<String>, json: Zeroizing<String>) -> Self {
        Self { exit: Exit::Done, text, json }
    }

    /// A report of nothing: standard output was the command's own.
    pub(crate) fn nothing(exit: Exit) -> Self {
        Self { exit, text: Zeroizing::default(), json: Zeroizing::default() }
    }

    /// How the command ends.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The report in a form.
    pub(crate) fn form(&self, form: Form) -> &str {
        match form {
            Form::Text => &self.text,
            Form::Json => &self.json,
        }
    }

    /// Prints the report.
    ///
    /// # Errors
    ///
    /// If standard output can't be written; that its reader has gone is none.
    pub(crate) fn print(&self, form: Form) -> anyhow::Result<Exit> {
        match standard_streams::write(self.form(form).as_bytes()) {
            Ok(()) => Ok(self.exit),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(self.exit),
            Err(error) => Err(anyhow::Error::new(error).context("standard output can't be written")),
        }
    }
}

/// One JSON document of several that a command prints, each on its line; the last one is its report.
pub(crate) fn event(command: &str, event: &str, fields: Value) -> String {
    let mut document = json!({ "version": VERSION, "command": command, "event": event });
    if let (Value::Object(document), Value::Object(fields)) = (&mut document, fields) {
        document.extend(fields);
    }
    format!("{document}\n")
}

/// The beginning of a JSON document with secrets, up to its own fields.
pub(crate) fn open_document(command: &str) -> String {
    format!(r#"{{"version":{VERSION},"command":"{command}""#)
}

/// A text as a JSON string, appended to `document`, whose capacity must be enough: a secret that moves leaves a copy.
///
/// # Errors
///
/// None in practice: memory takes all that is written.
pub(crate) fn push_json(document: &mut Zeroizing<String>, text: &str) -> anyhow::Result<()> {
    // Every byte escaped as \u00XX at worst.
    let mut quoted = Zeroizing::new(Vec::with_capacity(6 * text.len() + 2));
    serde_json::to_writer(&mut *quoted, text)?;
    document.push_str(std::str::from_utf8(&quoted)?);
    Ok(())
}

/// A table with a heading, ready to print.
pub(crate) fn table<const N: usize>(
    heading: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heading);
    for row in rows {
        table.add_row(row.map(|cell| printable(&cell).into_owned()));
    }
    table.lines().fold(String::new(), |mut text, line| {
        text.push_str(line.trim());
        text.push('\n');
        text
    })
}

/// Names and values, a line each, the values below each other.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    facts.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to memory does not fail.
        let _ = writeln!(text, "{name:width$}  {}", printable(value));
        text
    })
}

/// `text` with what steers a terminal spelled out: it comes from a database, where tenants choose names.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    let spelled = |c: char| if steers(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(spelled).collect::<String>().into()
}

/// Whether a character moves the cursor, breaks the line, or turns the direction of the text after it, by which a name
/// would show as another one (Unicode Standard Annexes 9 and 14).
pub(crate) fn steers(c: char) -> bool {
    let turns =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns
}

/// `1 row`, `2 rows`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", grouped(number))
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A moment to the second, for people.
pub(crate) fn moment(moment: OffsetDateTime) -> String {
    let seconds = moment.replace_nanosecond(0).unwrap_or(moment);
    rfc3339(seconds)
}

/// A moment, for programs.
pub(crate) fn rfc3339(moment: OffsetDateTime) -> String {
    // Only years beyond 9999 have no such form.
    moment.format(&Rfc3339).unwrap_or_else(|_| moment.to_string())
}

/// A bar on standard error while `length` things are done; nothing is shown unless that is a terminal.
pub(crate) fn progress(what: &'static str, length: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{msg:22} {bar:30} {human_pos}/{human_len}, {eta} left") {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_spelled_out() {
        assert_eq!(printable("git\u{1b}[2Jhub\n"), "git\\u{1b}[2Jhub\\n");
        assert_eq!(printable("git\u{202e}buh\u{2028}\u{9b}m"), "git\\u{202e}buh\\u{2028}\\u{9b}m");
        for text in ["Zürich", "e\u{301}", "👩\u{200d}🚀", "שלום", "\u{feff}"] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!((count(1, "row"), count(2, "row")), ("1 row".to_owned(), "2 rows".to_owned()));
    }

    #[test]
    fn a_secret_is_quoted_as_serde_json_does() {
        let mut document = Zeroizing::new(String::new());
        push_json(&mut document, "a\"\\\n\u{1}ü").unwrap();
        assert_eq!(serde_json::from_str::<String>(&document).unwrap(), "a\"\\\n\u{1}ü");
    }
}
