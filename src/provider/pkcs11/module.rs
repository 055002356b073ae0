//! The modules of this process: a library each, loaded and initialised once, with the PINs that its tokens refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11 as Library};
use cryptoki::error::{Error as Pkcs11Error, RvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::failure;
use super::login::RefusedPins;
use crate::error::{Error, ErrorKind, Result};

/// How many calls of one module may be under way: a call is one for each process and cache period, so these are more than
/// there are vaults, and few enough that a module that never answers takes no more threads than these.
const MAX_CALLS: usize = 16;

/// A library that speaks PKCS#11, of which a process has one context.
pub(super) struct Module {
    path: PathBuf,
    library: Mutex<Option<Library>>,
    /// Held while a PIN is on its way to a token of the module: never two at once.
    refused_pins: Mutex<RefusedPins>,
    calls: Arc<Semaphore>,
}

/// Every module that was used. They stay loaded: to unload a library that may have threads of its own is not safe.
static MODULES: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

/// Held by who loads or initialises any module: two paths may lead to one library, and modules don't stand two at once.
static INITIALIZING: Mutex<()> = Mutex::new(());

impl Module {
    /// The module at `path`, which is loaded when it is used.
    pub(super) fn at(path: &Path) -> Arc<Self> {
        let new = || {
            Arc::new(Self {
                path: path.to_owned(),
                library: Mutex::new(None),
                refused_pins: Mutex::default(),
                calls: Arc::new(Semaphore::new(MAX_CALLS)),
            })
        };
        Arc::clone(locked(&MODULES).entry(path.to_owned()).or_insert_with(new))
    }

    /// Room for one more call, kept until the thread that makes it ends, however long its caller has waited.
    ///
    /// # Errors
    ///
    /// `Provider`, not retryable at once, while too many have not come back.
    pub(super) fn call(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.calls).try_acquire_owned().map_err(|_| {
            let what = format!("{MAX_CALLS} calls of the PKCS#11 module {:?} have not come back", self.path);
            Error::new(ErrorKind::Provider, what)
        })
    }

    /// The library, initialised. Whoever else uses it in this process may have done that, or have undone it since.
    ///
    /// # Errors
    ///
    /// `KeyUnavailable` if it can't be loaded, naming it; `Provider` if it can't be initialised.
    pub(super) fn library(&self) -> Result<Library> {
        let _one_at_a_time = locked(&INITIALIZING);
        let mut loaded = locked(&self.library);
        let library = match &*loaded {
            Some(library) => library.clone(),
            None => {
                let library = Library::new(&self.path).map_err(|error| self.not_loaded(error))?;
                loaded.insert(library).clone()
            }
        };
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Pkcs11Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(library),
            Err(error) => Err(failure::of(format_args!("PKCS#11 module {:?}", self.path), error)),
        }
    }

    fn not_loaded(&self, error: Pkcs11Error) -> Error {
        let what = format!("the PKCS#11 module {:?} can't be loaded: {error}", self.path);
        Error::new(ErrorKind::KeyUnavailable, what)
    }

    /// The PINs that were refused, for the one thread that may log in now.
    pub(super) fn refused_pins(&self) -> MutexGuard<'_, RefusedPins> {
        locked(&self.refused_pins)
    }
}

/// A thread that panicked leaves nothing half done under these locks.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_never_answers_takes_a_limited_number_of_threads() {
        let path = Path::new("/nowhere/hanging.so");
        let calls: Vec<_> = (0..MAX_CALLS).map(|_| Module::at(path).call().unwrap()).collect();
        let error = Module::at(path).call().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.to_string().contains("hanging.so") && !error.is_retryable(), "{error:?}");
        assert!(Module::at(Path::new("/nowhere/another.so")).call().is_ok());
        drop(calls);
        assert!(Module::at(path).call().is_ok());
    }
}
