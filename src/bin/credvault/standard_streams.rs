//! Standard input and output for secrets: read and written without the buffers of `std`, which nothing wipes.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};

use anyhow::Context;
use zeroize::Zeroizing;

use crate::failure::usage;

/// The most bytes of standard input: more than the largest credential takes as JSON without needless escapes.
pub(crate) const MAX_INPUT_BYTES: usize = 1024 * 1024;

/// All of standard input, to its end.
///
/// # Errors
///
/// `InvalidInput` above [`MAX_INPUT_BYTES`], or if it isn't UTF-8.
pub(crate) fn read_to_end() -> anyhow::Result<Zeroizing<String>> {
    let bytes = read_bounded(input()?, MAX_INPUT_BYTES).context("standard input can't be read")?;
    let bytes =
        bytes.ok_or_else(|| usage(format!("standard input has more than {MAX_INPUT_BYTES} bytes")))?;
    into_text(bytes).ok_or_else(|| usage("standard input is not UTF-8"))
}

/// What a reader gives to its end; `None` above `max_bytes`.
pub(crate) fn read_bounded(
    mut reader: impl Read,
    max_bytes: usize,
) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // One buffer, never grown, so that no copy stays behind; one byte more than allowed tells that there is more.
    let mut bytes = Zeroizing::new(vec![0; max_bytes + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match reader.read(&mut bytes[length..]) {
            Ok(0) => {
                bytes.truncate(length);
                return Ok(Some(bytes));
            }
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// The bytes as text, in the same memory; `None`, and all wiped, if they are none.
fn into_text(mut bytes: Zeroizing<Vec<u8>>) -> Option<Zeroizing<String>> {
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Some(text.into()),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            None
        }
    }
}

/// Writes all of `bytes` to standard output.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    output()?.write_all(bytes)
}

/// Whether standard output is a terminal.
pub(crate) fn shows_on_a_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Standard input, without a buffer.
#[cfg(unix)]
pub(crate) fn input() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Standard output, without a buffer.
#[cfg(unix)]
pub(crate) fn output() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

#[cfg(windows)]
pub(crate) fn input() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdin().as_handle().try_clone_to_owned()?))
}

#[cfg(windows)]
pub(crate) fn output() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
}
