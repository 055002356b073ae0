//! What may be done, and in which proportion.

use std::collections::BTreeMap;

use proptest::prelude::*;
use time::OffsetDateTime;

pub const ORGANIZATIONS: usize = 3;
/// Each integration's first organization and its connector: some can move to every organization, some meet another.
pub const INTEGRATIONS: [(usize, &str); 5] =
    [(0, "github"), (1, "github"), (0, "slack"), (2, "gcp"), (1, "pagerduty")];

/// How often a call is polled at most before it is dropped: some end before.
const MAX_POLLS: u64 = 120;

/// What is done; `by` says which of two processes does it: one is opened anew now and then, the other never.
#[derive(Clone, Debug)]
pub enum Operation {
    Put {
        by: usize,
        organization: usize,
        integration: usize,
        value: Value,
    },
    Get {
        by: usize,
        organization: usize,
        integration: usize,
    },
    UpdateFresh {
        by: usize,
        organization: usize,
        integration: usize,
        value: Value,
    },
    UpdateStale {
        by: usize,
        organization: usize,
        integration: usize,
        value: Value,
    },
    Delete {
        by: usize,
        organization: usize,
        integration: usize,
    },
    Transfer {
        by: usize,
        integration: usize,
        from: usize,
        to: usize,
    },
    Describe {
        by: usize,
        organization: usize,
        integration: usize,
    },
    List {
        by: usize,
        organization: usize,
    },
    Expiring {
        by: usize,
        before: i64,
    },
    RotateAll {
        by: usize,
    },
    RotateDue {
        by: usize,
    },
    /// A rotation that stops after so many rows.
    RotateSome {
        by: usize,
        scope: Scope,
        rows: u64,
    },
    /// A rotation that is dropped when it was polled so often.
    CrashRotation {
        by: usize,
        scope: Scope,
        polls: u64,
    },
    Rewrap {
        by: usize,
    },
    GiveOwnKey {
        by: usize,
        organization: usize,
    },
    CrashGivingOwnKey {
        by: usize,
        organization: usize,
        polls: u64,
    },
    /// Of one of the keys, whichever stands at that place.
    Compromise {
        by: usize,
        key: usize,
    },
    CrashCompromise {
        by: usize,
        key: usize,
        polls: u64,
    },
    Destroy {
        by: usize,
        key: usize,
    },
    /// Registers the old service's key.
    Adopt {
        by: usize,
    },
    /// The old service writes one of its rows.
    WriteLegacy {
        integration: usize,
        row: usize,
    },
    ReEncryptLegacy {
        by: usize,
    },
    CutOverLegacy {
        by: usize,
    },
    Reopen,
}

/// Which keys a rotation replaces.
#[derive(Clone, Copy, Debug)]
pub enum Scope {
    All,
    Due,
}

/// What a credential holds, in short.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub fields: BTreeMap<String, String>,
    pub expires_at: Option<OffsetDateTime>,
}

pub fn operation() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let by = || 0..2_usize;
    let organization = || 0..ORGANIZATIONS;
    let integration = || 0..INTEGRATIONS.len();
    let key = || 0..12_usize;
    let polls = || 0..MAX_POLLS;
    let scope = || prop_oneof![Just(Scope::All), Just(Scope::Due)];
    let place = (by(), organization(), integration());
    // Mostly the organization that has the integration at first, so that most calls do something.
    let likely = prop_oneof![
        3 => (by(), integration()).prop_map(|(by, integration)| (by, INTEGRATIONS[integration].0, integration)),
        1 => place,
    ];
    let value = ("[ -~é\u{0}\u{2028}]{0,40}", proptest::option::of(0..4_000_000_000_i64)).prop_map(
        |(text, expires_at)| Value {
            fields: BTreeMap::from([("access_token".to_owned(), text)]),
            expires_at: expires_at.map(|at| OffsetDateTime::from_unix_timestamp(at).unwrap()),
        },
    );
    let write = (likely.clone(), value);
    prop_oneof![
        10 => write.clone().prop_map(|((by, organization, integration), value)| {
            Put { by, organization, integration, value }
        }),
        4 => likely.clone().prop_map(|(by, organization, integration)| Get { by, organization, integration }),
        4 => write.clone().prop_map(|((by, organization, integration), value)| {
            UpdateFresh { by, organization, integration, value }
        }),
        3 => write.prop_map(|((by, organization, integration), value)| {
            UpdateStale { by, organization, integration, value }
        }),
        2 => likely.clone().prop_map(|(by, organization, integration)| Delete { by, organization, integration }),
        4 => (by(), integration(), organization(), organization())
            .prop_map(|(by, integration, from, to)| Transfer { by, integration, from, to }),
        1 => likely.prop_map(|(by, organization, integration)| Describe { by, organization, integration }),
        1 => (by(), organization()).prop_map(|(by, organization)| List { by, organization }),
        1 => (by(), 0..4_000_000_000_i64).prop_map(|(by, before)| Expiring { by, before }),
        3 => by().prop_map(|by| RotateAll { by }),
        2 => by().prop_map(|by| RotateDue { by }),
        4 => (by(), scope(), 0..4_u64).prop_map(|(by, scope, rows)| RotateSome { by, scope, rows }),
        4 => (by(), scope(), polls()).prop_map(|(by, scope, polls)| CrashRotation { by, scope, polls }),
        2 => by().prop_map(|by| Rewrap { by }),
        2 => (by(), organization()).prop_map(|(by, organization)| GiveOwnKey { by, organization }),
        1 => (by(), organization(), polls())
            .prop_map(|(by, organization, polls)| CrashGivingOwnKey { by, organization, polls }),
        2 => (by(), key()).prop_map(|(by, key)| Compromise { by, key }),
        1 => (by(), key(), polls()).prop_map(|(by, key, polls)| CrashCompromise { by, key, polls }),
        5 => (by(), key()).prop_map(|(by, key)| Destroy { by, key }),
        1 => by().prop_map(|by| Adopt { by }),
        4 => (integration(), 0..9_usize).prop_map(|(integration, row)| WriteLegacy { integration, row }),
        1 => by().prop_map(|by| ReEncryptLegacy { by }),
        1 => by().prop_map(|by| CutOverLegacy { by }),
        1 => Just(Reopen),
    ]
}
