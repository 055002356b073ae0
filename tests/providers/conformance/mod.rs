//! What every provider of master keys is held to, whatever gives the keys.
//!
//! The claims come in three groups, and a provider's test program says which hold for it:
//!
//! - [`keys`], for all: what is created unlocks again, a wrong key is found out before a row is touched, nothing secret is
//!   shown, one call opens a vault, a rewrap leads to the provider and away from it under a reader.
//! - [`records`], for those that keep something in the provider record: altered or cut, it opens nothing.
//! - [`services`], for those that ask somebody else: a record is bound to its vault, master key and organization; failures
//!   are asked again within bounds; an outage is borne until the ceiling; a refresh; an organization's own master key.
//!
//! No claim is passed over while it runs: what a kind of provider can't have is in a group that it doesn't name.
//!
//! # A new provider
//!
//! 1. Say what the suite needs of the provider's counterpart, the service, double or file behind it, in a type of its own in
//!    `tests/providers/NAME/counterpart.rs`, so that the chain of rewraps, `chain.rs`, can have it too: [`Counterpart`], and
//!    of a service [`Recorded`] and [`Service`]. Each value is a key of its own, which nobody else uses: its failures and its
//!    calls are counted apart, as the claims run side by side.
//! 2. In the test program, `tests/providers/NAME.rs`, beside `mod common;` and `mod conformance;`, one line:
//!
//!    ```text
//!    conformance::conformance!(crate::name::counterpart::Key: keys, records, services);
//!    ```
//!
//!    Each claim is a test: `conforms::services::sqlite::a_refresh_makes_…`.
//! 3. Add the program to `tests/providers/run`, with a script in `counterparts/` that starts what it needs, and one line to
//!    the list in `chain.rs`.
//! 4. What is special to the provider, such as which of its service's errors may be over, is a test of its own beside it.
//! 5. Break the provider (leave out the context, the second attempt, the bound of attempts) and see the suite fail.

pub(crate) mod keys;
pub(crate) mod outages;
pub(crate) mod records;
pub(crate) mod services;
pub(crate) mod shown;

use std::env;
use std::process::Command;
use std::sync::Arc;

use credvault::provider::{self, MasterKeyProvider, ProviderContext};
use credvault::{ErrorKind, IntegrationId, OrganizationId, Vault};
use uuid::Uuid;

use crate::common::{TestDatabase, token};

/// What stands behind a provider in a test: one key of its own, and who gives it.
pub(crate) trait Counterpart: Sized {
    /// The kind of provider, as the database has it.
    const KIND: &'static str;

    /// What a vault is refused with by a provider of this kind that has another key.
    const ANOTHER_KEY: ErrorKind;

    /// What other bytes than the key's are found out as: by the vault's key check, or before it by the provider.
    const WRONG_KEY: ErrorKind = ErrorKind::KeyMismatch;

    /// The variables that the process must have been started with; a test runs in a process of its own that has them.
    fn variables() -> Vec<(String, String)> {
        Vec::new()
    }

    /// A key that is nobody else's.
    async fn fresh() -> Self;

    /// The provider's spec.
    fn spec(&self) -> String;

    /// A provider of this key, as of a process that begins.
    fn provider(&self) -> Arc<dyn MasterKeyProvider> {
        provider::from_spec(&self.spec()).unwrap()
    }

    /// A provider that is taken for this key's, and gives other bytes the next time that it unlocks.
    fn impostor(&self) -> Arc<dyn MasterKeyProvider>;

    /// What nobody may see: the key where it is known, a password, a token.
    fn secrets(&self) -> Vec<Vec<u8>>;
}

/// A counterpart whose provider keeps something in the provider record.
pub(crate) trait Recorded: Counterpart {
    /// What a record is refused with in which a byte of a ciphertext, or of a salt, was altered.
    const ALTERED: ErrorKind;
}

/// A counterpart that is asked: a key service, a token, a program.
pub(crate) trait Service: Recorded {
    /// The next `calls` for this key come to this, and after them all is well. It replaces what was said before.
    fn weather(&self, weather: Weather, calls: usize);

    /// How often the service was asked for this key, each attempt counted, since the last time that somebody asked.
    fn take_calls(&self) -> usize;

    /// Another version of the service's own key wraps from now on. Where it can't be told to, each ciphertext of a key differs
    /// from the one before all the same.
    async fn rotate(&self) {}

    /// All is well.
    fn clear_up(&self) {
        self.weather(Weather::Away, 0);
    }
}

/// How a service fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It was asked too often.
    Throttled,
    /// It fails inside, or can't be reached; at once.
    Away,
    /// It takes the question and doesn't answer it for longer than anyone waits.
    Silent,
    /// It refuses, for good: a right was taken away, a key disabled.
    Denied,
}

/// More calls than are ever made.
pub(crate) const MANY: usize = 200;

/// The context that providers are asked in where there is no vault.
pub(crate) fn context() -> ProviderContext {
    ProviderContext::new(Uuid::from_u128(1).into(), Uuid::from_u128(2).into())
}

/// A vault under `key` with one row, the token `there`.
pub(crate) async fn vault_with_a_row(
    database: &TestDatabase,
    key: Arc<dyn MasterKeyProvider>,
) -> (Vault, OrganizationId, IntegrationId) {
    let builder = Vault::builder().url(database.url()).master_key_provider(key).create_if_missing();
    let vault = builder.build().await.unwrap();
    let (organization, integration) = database.add_tenant().await;
    vault.organization(organization).put(integration, &token("there")).await.unwrap();
    (vault, organization, integration)
}

/// The vault of `database`, as a process opens it that has these keys.
pub(crate) async fn open(
    database: &TestDatabase,
    keys: impl IntoIterator<Item = Arc<dyn MasterKeyProvider>>,
) -> credvault::Result<Vault> {
    let builder = Vault::builder().url(database.url());
    keys.into_iter().fold(builder, |builder, key| builder.master_key_provider(key)).build().await
}

/// Whether the test `name` was run in another process, which has the variables that `C` needs. It passed there, then.
pub(crate) fn is_run_elsewhere<C: Counterpart>(name: &str) -> bool {
    let variables = C::variables();
    if variables.iter().all(|(name, _)| env::var_os(name).is_some()) {
        return false;
    }
    // Without the name of the crate.
    let (_, name) = name.split_once("::").unwrap();
    let mut again = Command::new(env::current_exe().unwrap());
    let output = again.args(["--exact", name, "--nocapture"]).envs(variables).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    true
}

/// Makes a test of each claim of these groups about a counterpart, which is said by its path from the crate.
macro_rules! conformance {
    ($counterpart:ty: $($group:ident),+ $(,)?) => {
        mod conforms {
            $(crate::conformance::$group::claims!($counterpart);)+
        }
    };
}
pub(crate) use conformance;

/// Tests of one group: of claims about a vault on both stores, of such that move the clock, and of a provider alone.
macro_rules! tests {
    (
        $group:ident of $counterpart:ty;
        vaults: $($vault:ident),+;
        $(clocks: $($clock:ident),+;)?
        $(alone: $($alone:ident),+;)?
    ) => {
        mod $group {
            mod postgres {
                $(crate::conformance::test!($vault in $group of $counterpart, Postgres, flavor = "multi_thread", worker_threads = 2);)+
                $($(crate::conformance::test!($clock in outages of $counterpart, Postgres, flavor = "current_thread");)+)?
            }
            mod sqlite {
                $(crate::conformance::test!($vault in $group of $counterpart, Sqlite, flavor = "multi_thread", worker_threads = 2);)+
                $($(crate::conformance::test!($clock in outages of $counterpart, Sqlite, flavor = "current_thread");)+)?
            }
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $alone() {
                    let name = concat!(module_path!(), "::", stringify!($alone));
                    if !crate::conformance::is_run_elsewhere::<$counterpart>(name) {
                        crate::conformance::$group::$alone::<$counterpart>().await;
                    }
                }
            )+)?
        }
    };
}
pub(crate) use tests;

/// A test of a claim about a vault, on an empty database of one store.
macro_rules! test {
    ($claim:ident in $file:ident of $counterpart:ty, $store:ident, $($runtime:tt)+) => {
        #[tokio::test($($runtime)+)]
        async fn $claim() {
            let name = concat!(module_path!(), "::", stringify!($claim));
            if !crate::conformance::is_run_elsewhere::<$counterpart>(name) {
                let database =
                    crate::common::TestDatabase::create(crate::common::Dialect::$store).await;
                crate::conformance::$file::$claim::<$counterpart>(database).await;
            }
        }
    };
}
pub(crate) use test;
