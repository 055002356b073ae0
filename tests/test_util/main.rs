//! What services test with holds what it says: the vault in memory, the strategies, the faults, and the example.
#![cfg(feature = "test-util")]

mod faults;
mod memory;
mod strategies;

// The example of the documentation, as it stands there.
mod token_refresh {
    include!("token_refresh.rs");

    #[test]
    fn holds() {
        every_refresh_token_is_sent_once_and_the_newest_token_stays();
    }
}
