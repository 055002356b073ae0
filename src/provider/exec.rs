//! Master keys wrapped by a program of your own.

mod message;
mod process;

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use self::message::{Operation, Reply};
use super::{CachePeriod, MasterKeyProvider, ProviderContext, ProviderRecord, service};
use crate::crypto::key::MasterKey;
use crate::crypto::key_bytes::KeyBytes;
use crate::error::{Error, ErrorKind, Result};

/// A program of your own that wraps and unwraps the master key, which the vault draws: for a key service that credvault
/// has no provider for.
///
/// It is run for each question, with one JSON object on its standard input and one expected on its standard output; see
/// [the protocol](crate::manual::providers). It runs without a shell and without arguments, in `/`, with a small set of
/// environment variables; its standard error is thrown away, as it may hold secrets. After 5 s it is killed, with what
/// it started. The file belongs to root or to the process's effective user, and nobody else may write it.
#[derive(Clone, Debug)]
pub struct Exec {
    program: PathBuf,
}

impl Exec {
    /// The program at the absolute path `program`, which is not looked at yet.
    ///
    /// # Errors
    ///
    /// `InvalidInput` unless the path is absolute.
    pub fn new(program: impl Into<PathBuf>) -> Result<Self> {
        let program = program.into();
        if !program.is_absolute() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "the program of `exec:/PATH` is given by its absolute path, without arguments",
            ));
        }
        Ok(Self { program })
    }

    async fn ask(&self, operation: Operation<'_>, context: &ProviderContext) -> Result<Reply> {
        let request = message::request(&operation, context)?;
        service::asked(&shown(&self.program), || async {
            let answer = process::run(&self.program, request.as_bytes()).await?;
            let reply = message::reply(&answer.stdout);
            match (answer.status.success(), reply) {
                // The program's own word for what went wrong, whatever it exits with.
                (_, Ok(Reply::Failed(error))) => Err(error.within(shown(&self.program))),
                (true, reply) => reply.map_err(|error| error.within(shown(&self.program))),
                (false, _) => Err(Error::new(
                    ErrorKind::Provider,
                    format!(
                        "{} ended with {} and no error of the protocol (what it wrote to standard error is not kept)",
                        shown(&self.program),
                        answer.status
                    ),
                )),
            }
        })
        .await
    }

    fn other_answer(&self) -> Error {
        let what = format!("{} answered something else than was asked", shown(&self.program));
        Error::new(ErrorKind::Malformed, what)
    }
}

#[async_trait]
impl MasterKeyProvider for Exec {
    fn kind(&self) -> &'static str {
        "exec"
    }

    async fn create(&self, context: &ProviderContext) -> Result<(MasterKey, ProviderRecord)> {
        let key = KeyBytes::generate()?;
        let record = self.wrap(&key, context).await?;
        Ok((MasterKey::new(context.master_key_id, key), record))
    }

    async fn unlock(&self, record: &ProviderRecord, context: &ProviderContext) -> Result<MasterKey> {
        if record.as_str().is_empty() {
            return Err(Error::new(ErrorKind::Malformed, "the record of a program's master key is empty"));
        }
        match self.ask(Operation::Unwrap(record), context).await? {
            Reply::Key(key) => Ok(MasterKey::new(context.master_key_id, key)),
            _ => Err(self.other_answer()),
        }
    }

    async fn wrap(&self, key: &KeyBytes, context: &ProviderContext) -> Result<ProviderRecord> {
        match self.ask(Operation::Wrap(key), context).await? {
            Reply::Record(record) => Ok(record),
            _ => Err(self.other_answer()),
        }
    }

    fn cache(&self) -> Option<CachePeriod> {
        Some(CachePeriod::default())
    }
}

fn shown(program: &Path) -> String {
    format!("program {program:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_path_is_a_program() {
        assert!(Exec::new("/usr/libexec/wrap").is_ok());
        for path in ["", "wrap", "./wrap", "../wrap", "~/wrap"] {
            assert_eq!(Exec::new(path).unwrap_err().kind(), ErrorKind::InvalidInput, "{path}");
        }
    }
}
