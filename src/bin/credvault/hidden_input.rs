//! What is typed at a terminal without being shown.

use std::io;

use zeroize::Zeroizing;

/// Asks at the terminal, whatever standard input is, and gives the line that is typed.
///
/// # Errors
///
/// Without a terminal.
pub(crate) fn ask(prompt: &str) -> io::Result<Zeroizing<String>> {
    // rpassword hides what is typed only after it has asked: a fast answer, as a password manager gives, would be shown.
    #[cfg(unix)]
    let _hidden = Hidden::begin()?;
    rpassword::prompt_password(prompt).map(Zeroizing::new)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
#[cfg(unix)]
struct Hidden {
    terminal: std::fs::File,
    before: rustix::termios::Termios,
}

#[cfg(unix)]
impl Hidden {
    fn begin() -> io::Result<Self> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

        let terminal = std::fs::File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&terminal)?;
        let mut hidden = before.clone();
        // Nor does Ctrl-C end the process before it shows again what is typed: rpassword takes it for the end.
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ISIG);
        tcsetattr(&terminal, OptionalActions::Now, &hidden)?;
        Ok(Self { terminal, before })
    }
}

#[cfg(unix)]
impl Drop for Hidden {
    fn drop(&mut self) {
        use rustix::termios::{OptionalActions, tcsetattr};

        // A terminal that is gone shows nothing.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
