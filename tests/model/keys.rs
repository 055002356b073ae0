//! Data keys: their states, their material, and the wait that a switch to one begins.

use std::fmt;

use crate::transactions::TransactionSet;
use crate::variants::Variant;

/// The most keys of a run of the model.
const KEYS: usize = 3;

/// A data key, by its place in [`Keys`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyId(pub(crate) u8);

/// The key that is active before anything happens.
pub(crate) const FIRST: KeyId = KeyId(0);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "K{}", self.0)
    }
}

/// A set of data keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct KeySet(u8);

impl KeySet {
    pub(crate) fn contains(self, id: KeyId) -> bool {
        self.0 & 1 << id.0 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<KeyId> for KeySet {
    fn from_iter<I: IntoIterator<Item = KeyId>>(ids: I) -> Self {
        Self(ids.into_iter().fold(0, |set, id| set | 1 << id.0))
    }
}

/// Which rows a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// All organizations that have no key of their own.
    Shared,
    /// The one organization of the model.
    Organization,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyState {
    PreActive,
    Active,
    Deactivated,
    Destroyed,
}

/// What the key's row in `vault_key_material` is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Material {
    Sound,
    /// Not what was to be written: it unwraps to nothing, or to another key.
    Damaged,
    /// Deleted.
    Gone,
}

/// The wait for the transactions that may be older than the switch to a key, and so may still write under the key of
/// before. It stands in the database: a later run goes on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Drain {
    /// Nobody has captured them yet.
    NotCaptured,
    Waiting(Captured),
    Ended,
}

/// The transactions that a drain waits for. One that ends leaves the set: its number is never given again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Captured {
    pub(crate) running: TransactionSet,
    pub(crate) prepared: TransactionSet,
    pub(crate) followed: Followed,
}

/// Whether the prepared transactions were looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Followed {
    NotYet,
    Yes,
}

impl Captured {
    /// Whether it is time to look at the prepared transactions again: once none that was captured runs any more. Before
    /// that, one could still be prepared behind the look.
    pub(crate) fn is_to_follow(&self, variant: Variant) -> bool {
        self.followed == Followed::NotYet
            && match variant {
                Variant::PreparedNotFollowed => false,
                Variant::PreparedFollowedTooEarly => true,
                _ => self.running.is_empty(),
            }
    }

    /// Whether nothing is left to wait for, unless it is to follow.
    pub(crate) fn have_ended(&self) -> bool {
        self.running.is_empty() && self.prepared.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) scope: Scope,
    pub(crate) state: KeyState,
    pub(crate) material: Material,
    /// Not in the database: whether somebody read it back once it was committed, and found it sound.
    pub(crate) checked: bool,
    /// Whether `unused_since` is set.
    pub(crate) unused: bool,
    /// The wait that the switch to this key began.
    pub(crate) drain: Drain,
}

impl Key {
    /// Whether it is, or was, the active key of its scope.
    fn was_activated(&self) -> bool {
        self.state != KeyState::PreActive
    }
}

/// The data keys, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Keys([Option<Key>; KEYS]);

impl Keys {
    /// One shared key, in use for long.
    pub(crate) fn new() -> Self {
        let first = Key {
            scope: Scope::Shared,
            state: KeyState::Active,
            material: Material::Sound,
            checked: true,
            unused: false,
            drain: Drain::Ended,
        };
        Self([Some(first), None, None])
    }

    pub(crate) fn get(&self, id: KeyId) -> &Key {
        self.0[usize::from(id.0)].as_ref().unwrap()
    }

    pub(crate) fn get_mut(&mut self, id: KeyId) -> &mut Key {
        self.0[usize::from(id.0)].as_mut().unwrap()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyId, &Key)> {
        (0..).map(KeyId).zip(self.0.iter().flatten())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (KeyId, &mut Key)> {
        (0..).map(KeyId).zip(self.0.iter_mut().flatten())
    }

    fn find(&self, scope: Scope, state: KeyState) -> Option<KeyId> {
        self.iter().find(|(_, key)| key.scope == scope && key.state == state).map(|(id, _)| id)
    }

    /// The active key of a row's scope: its organization's own where it has one, else the shared one.
    pub(crate) fn active(&self, scope: Scope) -> KeyId {
        self.find(scope, KeyState::Active)
            .or_else(|| self.find(Scope::Shared, KeyState::Active))
            .expect("there is always an active shared key")
    }

    pub(crate) fn pre_active(&self) -> Option<KeyId> {
        self.find(Scope::Shared, KeyState::PreActive)
    }

    pub(crate) fn have_own(&self) -> bool {
        self.find(Scope::Organization, KeyState::Active).is_some()
    }

    /// How many shared keys were activated after the first.
    pub(crate) fn switches(&self) -> usize {
        self.iter().filter(|(_, key)| key.scope == Scope::Shared && key.was_activated()).count() - 1
    }

    /// Whether there is room for another in this run of the model.
    pub(crate) fn have_room(&self) -> bool {
        self.0.contains(&None)
    }

    /// Commits a new key with its material, pre-active.
    pub(crate) fn insert(&mut self, scope: Scope, material: Material) -> KeyId {
        let at = self.0.iter().position(Option::is_none).unwrap();
        self.0[at] = Some(Key {
            scope,
            state: KeyState::PreActive,
            material,
            checked: false,
            unused: false,
            drain: Drain::NotCaptured,
        });
        KeyId(at as u8)
    }

    /// Deactivates the active key of a pre-active key's scope, and activates that one.
    pub(crate) fn switch(&mut self, to: KeyId) {
        if let Some(active) = self.find(self.get(to).scope, KeyState::Active) {
            self.get_mut(active).state = KeyState::Deactivated;
        }
        self.get_mut(to).state = KeyState::Active;
    }

    /// The keys to which was switched, and nothing captured since.
    pub(crate) fn switched(&self) -> KeySet {
        let switched = |key: &Key| key.was_activated() && key.drain == Drain::NotCaptured;
        self.iter().filter(|(_, key)| switched(key)).map(|(id, _)| id).collect()
    }

    pub(crate) fn deactivated(&self) -> KeySet {
        self.iter().filter(|(_, key)| key.state == KeyState::Deactivated).map(|(id, _)| id).collect()
    }

    /// The deactivated keys of which the wait has ended that the switch away from them began.
    pub(crate) fn drained(&self) -> KeySet {
        let next = |id: KeyId, scope| {
            self.iter().find(|(next, key)| next.0 > id.0 && key.scope == scope && key.was_activated())
        };
        let drained = |&(id, key): &(KeyId, &Key)| {
            key.state == KeyState::Deactivated
                && next(id, key.scope).is_some_and(|(_, key)| key.drain == Drain::Ended)
        };
        self.iter().filter(drained).map(|(id, _)| id).collect()
    }
}
