//! For the tests of services: a vault in memory, credentials to draw, a clock to move, a master key that fails on demand.
//!
//! Of the feature `test-util`, which belongs into `[dev-dependencies]`:
//!
//! ```toml
//! [dev-dependencies]
//! credvault = { git = "…", features = ["test-util"] }
//! ```
//!
//! | You want | Take |
//! |---|---|
//! | a vault, and nothing else | [`vault`] |
//! | one with your clock, your provider | [`in_memory`] |
//! | several vaults on one database, `put_in` | [`memory_pool`] |
//! | credentials of every kind | [`credentials`], each a [`PlainCredential`] |
//! | GitHub's tokens | [`github`] |
//! | keys that grow old, leases that end | [`ManualClock`] |
//! | a key service that is down, slow or counted | [`FaultyProvider`] |
//!
//! The strategies are those of [`proptest`], re-exported: with this one, versions agree.
//!
//! # A property of a service
//!
//! A service keeps the tokens of GitHub's users fresh. A refresh token is good once: sent twice, GitHub ends the
//! authorization. So the service has to see to it that of any number of workers only one sends it, that nothing older takes
//! the place of what that one got, and that neither goes wrong while keys rotate. The service, GitHub as far as it
//! matters, and the property; it fails when either `update` is a `put`:
//!
//! ```
#![doc = include_str!("../../tests/test_util/token_refresh.rs")]
//! # every_refresh_token_is_sent_once_and_the_newest_token_stays();
//! ```

pub mod credentials;
mod database;
mod faulty_provider;
pub mod github;
mod manual_clock;
mod memory_key;
mod plain_credential;

pub use proptest;

pub use self::database::{in_memory, memory_pool, vault};
pub use self::faulty_provider::{FaultyProvider, ProviderCalls};
pub use self::manual_clock::ManualClock;
pub use self::memory_key::MemoryKey;
pub use self::plain_credential::PlainCredential;
