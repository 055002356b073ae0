//! What to look for in the memory of a process with a vault: all that can be known by who has its master key and reads
//! its database.

use credvault::{IntegrationId, Vault};

use super::schedule::round_keys;
use super::search::Secret;
use crate::common::TestDatabase;
use crate::common::vault::MasterKeyParts;
use crate::derivation::{Derived, Purpose, StoredValue, derived, hmac_states, unwrap};

/// The keys of a vault, and what is made from them, by how long a process has to have it.
pub(crate) struct Secrets {
    master: MasterKeyParts,
    /// What is needed within a call, and gone after it.
    pub(crate) passing: Vec<Secret>,
    /// What is kept of the master key as long as the vault is open.
    pub(crate) of_master_key: Vec<Secret>,
    /// What is kept of the data key that the row is under, once it was needed.
    pub(crate) of_row_key: Vec<Secret>,
    /// What is kept of the others.
    pub(crate) of_other_keys: Vec<Secret>,
}

impl Secrets {
    /// Those of a vault with this master key; `passing` is what is needed to have it, and gone after that.
    pub(crate) fn of(master: MasterKeyParts, passing: Vec<Secret>) -> Self {
        let mut secrets = Self {
            master,
            passing,
            of_master_key: Vec::new(),
            of_row_key: Vec::new(),
            of_other_keys: Vec::new(),
        };
        secrets.of_master_key.extend(Secret::halves("master key", &master.key));
        let derived = secrets.add_derived("master key", &master.key, Purpose::DataKey, &master.id);
        secrets.of_master_key.extend(schedule("master key: schedule", &derived.aead));
        secrets.of_master_key.extend(states("master key", &derived));
        secrets
    }

    /// Adds what is derived from a key, and wiped once it was made use of; gives it.
    fn add_derived(&mut self, of: &str, key: &[u8; 32], purpose: Purpose, id: &[u8; 16]) -> Derived {
        let derived = derived(key, purpose, id);
        for (name, subkey) in [("prk", &derived.prk), ("commit", &derived.commit), ("check", &derived.check)]
        {
            self.passing.extend(Secret::halves(&format!("{of}: {name}"), subkey));
        }
        derived
    }

    /// Adds what the database holds now: its data keys, and the keys of the messages that they and a row are.
    pub(crate) async fn add_stored(&mut self, database: &TestDatabase, vault: &Vault, row: IntegrationId) {
        let row = StoredValue::read(&database.raw_row(row).await.unwrap().stored);
        let wraps = derived(&self.master.key, Purpose::DataKey, &self.master.id).aead;
        self.of_row_key.clear();
        self.of_other_keys.clear();
        for data_key in vault.keys().list().await.unwrap() {
            let (id, name) = (data_key.id.as_bytes(), format!("data key {}", data_key.id));
            let sql =
                format!("SELECT wrapped_key FROM vault_key_material WHERE data_key_id = '{}'", data_key.id);
            // The key of rows that were there before the vault has no material unless it is adopted.
            let Some(wrapped) = database.fetch_one_text(&sql).await else { continue };
            let wrap_key = StoredValue::read(&wrapped).message_key(&wraps);
            self.passing.extend(schedule(&format!("{name}: its wrap's message key"), &wrap_key));
            let bytes = unwrap(&self.master, vault.id().as_bytes(), id, &[], &wrapped);
            self.passing.extend(Secret::halves(&name, &bytes));
            let derived = self.add_derived(&name, &bytes, Purpose::Row, id);
            self.passing.extend(states(&name, &derived));
            let kept = schedule(&format!("{name}: schedule"), &derived.aead);
            if row.key_id() == *id {
                let message_key = row.message_key(&derived.aead);
                self.passing.extend(schedule(&format!("{name}: a row's message key"), &message_key));
                self.of_row_key.extend(kept);
            } else {
                self.of_other_keys.extend(kept);
            }
        }
        assert!(!self.of_row_key.is_empty(), "the row is under none of the vault's keys");
    }
}

/// The round keys of a key, of which the first two are the key itself.
fn schedule(name: &str, key: &[u8; 32]) -> Vec<Secret> {
    let secret = |(round, key): (usize, &[u8; 16])| Secret::new(format!("{name}, round {round}"), key);
    round_keys(key).iter().enumerate().map(secret).collect()
}

/// What commitments and key checks are computed with.
fn states(name: &str, derived: &Derived) -> Vec<Secret> {
    let mut states = Vec::new();
    for (subkey, key) in [("commit", &derived.commit), ("check", &derived.check)] {
        for (side, state) in ["inner", "outer"].into_iter().zip(hmac_states(key)) {
            states.extend(Secret::halves(&format!("{name}: {subkey}'s {side} state"), &state));
        }
    }
    states
}
