//! The harness: throw-away databases of both stores, and tests that run on each.
//!
//! A test file begins with `mod common;`, writes its tests as functions that take a [`TestDatabase`], and names
//! them in one [`on_both_stores!`].
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test binary uses its own part of the harness"
)]
#![allow(unreachable_pub, reason = "a harness is written as the library that it is")]

pub mod crowd;
pub mod hostile;
pub mod legacy;
pub mod long;
pub mod postgres;
pub mod roles;
pub mod schema;
pub mod service;
pub mod slow_link;
pub mod sqlite;
pub mod statements;
pub mod store;
pub mod traces;
pub mod vault;

pub use store::{Dialect, TestDatabase};
pub use vault::{KeyFiles, Pool, RawConnection, read, read_token, token};

/// Runs each of the functions `async fn name(database: TestDatabase)` as two tests, `postgres::name` and
/// `sqlite::name`, each on an empty database of its own.
///
/// Once per file; a function that is missing in the list is reported as dead code.
macro_rules! on_both_stores {
    ($($name:ident),+ $(,)?) => {
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::TestDatabase::create(super::common::Dialect::Postgres).await).await;
                }
            )+
        }
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(super::TestDatabase::create(super::common::Dialect::Sqlite).await).await;
                }
            )+
        }
    };
}
pub(crate) use on_both_stores;
