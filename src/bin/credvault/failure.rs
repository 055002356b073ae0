//! How the command ends: its exit codes, and errors on one line.

use std::io::Write;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind as ClapKind};
use credvault::{Error, ErrorKind};

/// How a command ended. Where several hold, an error goes before findings, and findings before work that remains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All was done.
    Done = 0,
    /// It failed.
    Error = 1,
    /// What was given can't be understood, or breaks a documented limit; nothing was done.
    Usage = 2,
    /// Work remains: run it again.
    WorkRemains = 3,
    /// Something isn't as it was written, or rows are in quarantine.
    Findings = 4,
    /// A guard refused it; nothing was done.
    Refused = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The error for what was given: exit code 2.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Error::new(ErrorKind::InvalidInput, message).into()
}

/// The error of a guard: exit code 5.
pub(crate) fn refused(message: impl Into<String>) -> anyhow::Error {
    Error::new(ErrorKind::Refused, message).into()
}

/// Says on one line of standard error what went wrong, and gives the exit code for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    say(&line(error));
    exit_of(error).into()
}

/// A library's error with its causes, as it is said elsewhere than on standard error.
pub(crate) fn one_line(error: &Error) -> String {
    let mut line = error.to_string();
    // As in `line`.
    let mut cause = std::error::Error::source(error).filter(|_| error.kind() != ErrorKind::NotInitialized);
    while let Some(error) = cause {
        append(&mut line, &error.to_string());
        cause = error.source();
    }
    line
}

fn exit_of(error: &anyhow::Error) -> Exit {
    match error.chain().find_map(|cause| cause.downcast_ref::<Error>()).map(Error::kind) {
        Some(ErrorKind::InvalidInput) => Exit::Usage,
        Some(ErrorKind::Refused) => Exit::Refused,
        _ => Exit::Error,
    }
}

/// The error and its causes, without repetitions, and what to do where the library can't say it.
fn line(error: &anyhow::Error) -> String {
    let ours = error.chain().find_map(|cause| cause.downcast_ref::<Error>());
    // That there is no vault says all; which table the database missed helps nobody.
    let has_no_vault = ours.is_some_and(|error| error.kind() == ErrorKind::NotInitialized);
    let causes = if has_no_vault { 1 } else { usize::MAX };
    let mut line = String::new();
    for cause in error.chain().take(causes).map(ToString::to_string) {
        append(&mut line, &cause);
    }
    line.push_str(match ours {
        Some(error) if error.kind() == ErrorKind::KeyMismatch => {
            "; give the one that it was made with, by --master-key or CREDVAULT_MASTER_KEY"
        }
        // A data key may be missing, too, which no master key brings back.
        Some(error)
            if error.kind() == ErrorKind::KeyUnavailable && error.to_string().starts_with("master key") =>
        {
            "; see that every key the vault needs is given, by --master-key or CREDVAULT_MASTER_KEY"
        }
        // A key file may be malformed, too.
        Some(error)
            if matches!(error.kind(), ErrorKind::Tampered | ErrorKind::Malformed)
                && error.to_string().starts_with("credential of integration") =>
        {
            "; restore it from a backup or store it anew (`credvault verify` lists all that does not open)"
        }
        Some(error) if error.is_retryable() => "; try again",
        _ => "",
    });
    line
}

/// Adds a cause, unless it is said already.
fn append(line: &mut String, cause: &str) {
    if line.contains(cause) {
        return;
    }
    match cause.rsplit_once(" (") {
        // A database's failure repeats the message, and adds its code.
        Some((message, code)) if !line.is_empty() && line.ends_with(message) => {
            line.push_str(" (");
            line.push_str(code);
        }
        _ => {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(cause);
        }
    }
}

fn say(line: &str) {
    // With standard error closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "credvault: {}", crate::output::printable(line));
}

/// Prints the help that was asked for, or says on one line what is wrong with the command line.
///
/// clap would repeat what it was given; a secret typed in the wrong place must not end up in a log.
pub(crate) fn of_command_line(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ClapKind::DisplayHelp | ClapKind::DisplayVersion => {
            // As above: nobody to tell.
            let _ = error.print();
            return Exit::Done.into();
        }
        ClapKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            return Exit::Usage.into();
        }
        _ => {}
    }
    say(&format!("{}; see `credvault --help`", complaint(error)));
    Exit::Usage.into()
}

fn complaint(error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => Some(texts.join(" or ")),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ClapKind::InvalidValue | ClapKind::ValueValidation => {
            let why = match std::error::Error::source(error) {
                Some(why) => format!(": {why}"),
                None => context(ContextKind::ValidValue)
                    .map(|values| format!(": it is one of {values}"))
                    .unwrap_or_default(),
            };
            format!("the value of {argument} is not valid{why}")
        }
        ClapKind::UnknownArgument if argument.starts_with('-') => {
            let name = argument.split('=').next().unwrap_or_default();
            let suggested = context(ContextKind::SuggestedArg)
                .map(|name| format!("; did you mean {name}?"))
                .unwrap_or_default();
            format!("there is no argument {name} here{suggested}")
        }
        ClapKind::UnknownArgument => {
            "one argument too many (it is not repeated here); a secret is never an argument: \
             it is read from standard input"
                .to_owned()
        }
        ClapKind::InvalidSubcommand => match context(ContextKind::SuggestedSubcommand) {
            Some(name) => format!("there is no such command; did you mean {name}?"),
            None => "there is no such command".to_owned(),
        },
        ClapKind::MissingRequiredArgument => {
            format!(
                "missing: {}",
                argument.replace(" or ", ", ").replace('|', " or ").replace(['<', '>'], "")
            )
        }
        ClapKind::MissingSubcommand => "a command is missing".to_owned(),
        ClapKind::ArgumentConflict => match context(ContextKind::PriorArg) {
            Some(prior) => format!("{argument} can't be used with {prior}"),
            None => format!("{argument} was given twice"),
        },
        ClapKind::NoEquals
        | ClapKind::TooFewValues
        | ClapKind::TooManyValues
        | ClapKind::WrongNumberOfValues => format!("{argument} takes one value"),
        ClapKind::InvalidUtf8 => "an argument is not UTF-8".to_owned(),
        _ => "the command line is not valid".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = std::io::Error::other("disk full (code 13)");
        let error = Error::new(ErrorKind::Store, "writing: disk full").with_source(inner);
        assert_eq!(line(&error.into()), "writing: disk full (code 13)");
        let inner = std::io::Error::other("disk full");
        let error = Error::new(ErrorKind::Store, "writing failed").with_source(inner);
        assert_eq!(line(&anyhow::Error::from(error).context("put")), "put: writing failed: disk full");
        let inner = std::io::Error::other("no such table");
        let error = Error::new(ErrorKind::NotInitialized, "no vault here").with_source(inner);
        assert_eq!(line(&error.into()), "no vault here");
    }

    #[test]
    fn what_to_do_is_said_of_a_credential_that_does_not_open() {
        let of = |message: &str| line(&Error::new(ErrorKind::Malformed, message).into());
        assert!(of("credential of integration 1: cut short").ends_with("lists all that does not open)"));
        assert_eq!(of("key file \"k\": cut short"), "key file \"k\": cut short");
    }

    #[test]
    fn each_kind_of_error_has_its_exit_code() {
        for (kind, exit) in [
            (ErrorKind::InvalidInput, Exit::Usage),
            (ErrorKind::Refused, Exit::Refused),
            (ErrorKind::KeyMismatch, Exit::Error),
            (ErrorKind::NotFound, Exit::Error),
            (ErrorKind::Store, Exit::Error),
        ] {
            let error = anyhow::Error::from(Error::new(kind, "x"));
            assert_eq!(exit_of(&error.context("y")), exit);
        }
        assert_eq!(exit_of(&anyhow::anyhow!("x")), Exit::Error);
    }
}
