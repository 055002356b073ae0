//! Command lines and what they print, held as files: the console blocks of `cases/*.md`.
//!
//! All commands of a file are typed into one shell, in an empty folder. What comes out is put in the place of what the
//! file says, and the two are compared. After a change that is meant,
//!
//! ```sh
//! SNAPSHOTS=overwrite cargo test --features test-util --test cli cases
//! ```
//!
//! writes the files anew: read the difference before it is committed.

use std::fmt::Write;
use std::path::Path;

use snapbox::{Assert, Data};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::shell::Shell;

/// Stands between the outputs of two commands, with the exit code of the one before.
const MARK: &str = "--- that was all of it, and the exit code is";

fn holds(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/cases").join(name);
    let text = std::fs::read_to_string(&path).unwrap();
    let case = Case::read(&text);
    let typed = case.commands.iter().fold(String::new(), |mut script, command| {
        writeln!(script, "{command}\nprintf '\\n{MARK} %d\\n' $?").unwrap();
        script
    });
    let outputs = outputs(&Shell::new().type_in(&typed));
    assert_eq!(outputs.len(), case.commands.len(), "{outputs:?}");
    let actual = case.with_outputs(&outputs);
    let expected = Data::read_from(&path, None);
    Assert::new().action_env("SNAPSHOTS").normalize_paths(false).eq(actual, expected);
}

/// Output and exit code of each command.
fn outputs(text: &str) -> Vec<(String, i32)> {
    let mut outputs = Vec::new();
    let mut rest = text;
    while let Some((output, after)) = rest.split_once(&format!("\n{MARK} ")) {
        let (code, after) = after.split_once('\n').unwrap();
        outputs.push((output.to_owned(), code.parse().unwrap()));
        rest = after;
    }
    assert_eq!(rest, "", "the shell ended early");
    outputs
}

/// A file of console blocks, without their outputs.
struct Case<'t> {
    /// Prose and the lines that are typed.
    lines: Vec<Line<'t>>,
    /// What is typed, continued lines joined.
    commands: Vec<String>,
}

enum Line<'t> {
    Kept(&'t str),
    /// After it comes the output of this command.
    EndOfCommand(&'t str, usize),
}

impl<'t> Case<'t> {
    fn read(text: &'t str) -> Self {
        let mut case = Self { lines: Vec::new(), commands: Vec::new() };
        let mut is_console = false;
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.starts_with("```") {
                is_console = line == "```console";
                case.lines.push(Line::Kept(line));
                continue;
            }
            if !is_console {
                case.lines.push(Line::Kept(line));
                continue;
            }
            if let Some(command) = line.strip_prefix("$ ") {
                case.commands.push(command.to_owned());
            } else if let Some(more) = line.strip_prefix("> ") {
                let command = case.commands.last_mut().unwrap();
                command.push('\n');
                command.push_str(more);
            } else {
                continue;
            }
            case.lines.push(match lines.peek().is_some_and(|next| next.starts_with("> ")) {
                true => Line::Kept(line),
                false => Line::EndOfCommand(line, case.commands.len() - 1),
            });
        }
        case
    }

    fn with_outputs(&self, outputs: &[(String, i32)]) -> String {
        let mut drawn = Drawn::new(self.commands.join("\n"));
        let mut text = String::new();
        for line in &self.lines {
            match *line {
                Line::Kept(line) => writeln!(text, "{line}").unwrap(),
                Line::EndOfCommand(line, command) => {
                    let (output, code) = &outputs[command];
                    writeln!(text, "{line}").unwrap();
                    if *code != 0 {
                        writeln!(text, "? {code}").unwrap();
                    }
                    text.push_str(&drawn.replaced(output));
                    if !output.is_empty() && !output.ends_with('\n') {
                        text.push('\n');
                    }
                }
            }
        }
        text
    }
}

/// What is drawn anew in each run, and names that stand for it.
struct Drawn {
    /// What was typed is not drawn.
    typed: String,
    ids: Vec<String>,
}

impl Drawn {
    fn new(typed: String) -> Self {
        Self { typed, ids: Vec::new() }
    }

    /// `output` with `[ID-1]` for the first id that comes, and so on, `[TIME]`, `[REVISION]` and `[OWNER]`.
    fn replaced(&mut self, output: &str) -> String {
        const OWNER: &str = r#""owner":""#;
        let mut parts = output.split(OWNER);
        let mut text = self.words_replaced(parts.next().unwrap());
        for part in parts {
            let (_, after) = part.split_once('"').unwrap();
            text.push_str(&format!("{OWNER}[OWNER]\"{}", self.words_replaced(after)));
        }
        text
    }

    fn words_replaced(&mut self, output: &str) -> String {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        let mut text = String::new();
        let mut rest = output;
        while !rest.is_empty() {
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let word = rest[..end].trim_end_matches(['.', ':']);
            text.push_str(&self.name(word));
            let other = rest[word.len()..].chars().next().map_or(0, char::len_utf8);
            text.push_str(&rest[word.len()..word.len() + other]);
            rest = &rest[word.len() + other..];
        }
        text
    }

    fn name(&mut self, word: &str) -> String {
        if word.is_empty() || self.typed.contains(word) {
            return word.to_owned();
        }
        if word.starts_with("cv1.") {
            return "[REVISION]".to_owned();
        }
        if OffsetDateTime::parse(word, &Rfc3339).is_ok() {
            return "[TIME]".to_owned();
        }
        if word.len() == 36 && Uuid::try_parse(word).is_ok() {
            let at = self.ids.iter().position(|id| id == word).unwrap_or_else(|| {
                self.ids.push(word.to_owned());
                self.ids.len() - 1
            });
            return format!("[ID-{}]", at + 1);
        }
        word.to_owned()
    }
}

#[test]
fn the_help_is_as_the_file_says() {
    holds("help.md");
}

#[test]
fn errors_are_as_the_file_says() {
    holds("errors.md");
}

#[test]
fn a_session_is_as_the_file_says() {
    holds("session.md");
}

#[test]
fn documents_are_as_the_file_says() {
    holds("documents.md");
}

#[test]
fn what_is_drawn_gets_a_name_and_what_was_typed_keeps_its_own() {
    let typed = "6f1d2f0e-9a3b-4b7e-8f52-1f6d0c1f7a10";
    let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
    let mut drawn = Drawn::new(format!("credvault list --organization {typed}"));
    let output = format!(
        "{typed} {a}: {b}. \"{a}\" 2027-01-31T12:00:00.5Z cv1.x_y-z \"owner\":\"host, process 7\" {a}\n"
    );
    assert_eq!(
        drawn.replaced(&output),
        format!("{typed} [ID-1]: [ID-2]. \"[ID-1]\" [TIME] [REVISION] \"owner\":\"[OWNER]\" [ID-1]\n")
    );
}
