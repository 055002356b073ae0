//! What others may do to the process that holds keys.

use crate::error::{Error, ErrorKind, Result};

/// Keeps the process's memory from core dumps, and from other processes of the same user. To be called first in `main`, as
/// the command does; the library by itself changes nothing about your process.
///
/// - The limit of core dumps is 0, here and in the programs that it starts.
/// - On Linux the process is not dumpable (`PR_SET_DUMPABLE`): it leaves no core dump to a program that collects them either,
///   and its `/proc/PID` belongs to root. So a debugger, `strace`, or a monitor of the same user that reads its memory,
///   environment, open files or maps is refused, unless it may trace any process. A program that it starts is dumpable again.
///
/// # Errors
///
/// `Unsupported` where the system has no such thing, or refuses it.
pub fn forbid_core_dumps() -> Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};

        let refused = |error: rustix::io::Errno| {
            Error::new(ErrorKind::Unsupported, "the system does not let the process forbid core dumps")
                .with_source(std::io::Error::from(error))
        };
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(refused)?;
        #[cfg(target_os = "linux")]
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .map_err(refused)?;
        Ok(())
    }
    #[cfg(not(unix))]
    Err(Error::new(ErrorKind::Unsupported, "core dumps can't be forbidden on this system"))
}
