//! Questions that are answered at the terminal, or by a flag where there is none.

use std::io::{self, IsTerminal, Write};

use crate::failure::{refused, usage};

/// Whether there is a terminal to ask at.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// What is typed as the answer to a question, without the blanks around it.
pub(crate) fn ask(question: &str) -> io::Result<String> {
    let mut terminal = io::stderr();
    terminal.write_all(question.as_bytes())?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

/// Asks a question that `y` agrees to; all else is `false`.
pub(crate) fn agrees(question: &str) -> io::Result<bool> {
    let answer = ask(&format!("{question} [y/N] "))?;
    Ok(matches!(answer.as_str(), "y" | "Y" | "yes"))
}

/// Asks whether `claim` holds, which the command relies on.
///
/// # Errors
///
/// `InvalidInput` without a terminal: `--yes` says it there; `Refused`, with `refusal`, if it does not.
pub(crate) fn that(claim: &str, refusal: &str) -> anyhow::Result<()> {
    if !can_ask() {
        return Err(usage(format!("{claim}; say --yes if that is so")));
    }
    match agrees(&format!("Make sure: {claim}.\nIs that so?"))? {
        true => Ok(()),
        false => Err(refused(refusal)),
    }
}
