//! What a verification finds.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::id::{DataKeyId, IntegrationId, MasterKeyId, OrganizationId};
use crate::store::KeyState;

/// Something that isn't as it was written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Finding {
    /// A credential's row.
    Row {
        /// Whose credential it is.
        integration: IntegrationId,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A data key's record.
    Key {
        /// The key.
        key: DataKeyId,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A record among those of the data keys that can't be read, and may name no key.
    KeyRecord {
        /// What is wrong with it.
        problem: Problem,
    },
    /// The data keys of a scope, taken together.
    Scope {
        /// The organization whose own keys they are; `None` for the shared ones.
        organization: Option<OrganizationId>,
        /// What is wrong with them.
        problem: Problem,
    },
    /// A master key's record.
    MasterKey {
        /// The key.
        key: MasterKeyId,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The master keys, taken together.
    MasterKeys {
        /// What is wrong with them.
        problem: Problem,
    },
    /// An entry of the quarantine.
    Quarantine {
        /// The integration that it names.
        integration: IntegrationId,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a row, a key, or another thing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Problem {
    /// It does not open: the kind of error, and its message.
    DoesNotOpen(ErrorKind, String),
    /// The column `expires_at` differs from the sealed expiry, which is the true one.
    ExpiryDiffers,
    /// A row names a data key that has no material, by the column as it stands: nothing opens it any more.
    KeyGone(String),
    /// A credential's integration is gone, so that the credential is nobody's.
    IntegrationGone,
    /// The credential that an entry of the quarantine is about is gone.
    CredentialGone,
    /// A key is in a state without the time that comes with it, by the column's name.
    TimeMissing(KeyState, &'static str),
    /// A key has a time that its state rules out, by the column's name.
    TimeUnexpected(KeyState, &'static str),
    /// The time of a later state lies before that of an earlier one, by the names of the columns.
    TimesOutOfOrder {
        /// The column that should be the earlier.
        earlier: &'static str,
        /// The column that should be the later.
        later: &'static str,
    },
    /// A data key isn't destroyed and has no material: what it sealed does not open.
    MaterialMissing,
    /// A data key is destroyed and has material.
    MaterialLeft,
    /// There is material of a data key that has no record.
    RecordMissing,
    /// A master key is destroyed and still wraps so many data keys.
    StillWraps(u64),
    /// None of the keys is the active one.
    NoActiveKey,
    /// So many keys are active where only one may be.
    SeveralActiveKeys(u64),
}

impl Finding {
    /// What is wrong.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        match self {
            Self::Row { problem, .. }
            | Self::Key { problem, .. }
            | Self::KeyRecord { problem }
            | Self::Scope { problem, .. }
            | Self::MasterKey { problem, .. }
            | Self::MasterKeys { problem }
            | Self::Quarantine { problem, .. } => problem,
        }
    }
}

impl Problem {
    /// The kind of problem in a few words that stay the same, for programs: the kind of error of what does not open, or
    /// the name of the problem, such as `expiry differs`.
    #[must_use]
    pub fn kind(&self) -> String {
        let kind = match self {
            Self::DoesNotOpen(kind, _) => return kind.to_string(),
            Self::ExpiryDiffers => "expiry differs",
            Self::KeyGone(_) => "key gone",
            Self::IntegrationGone => "integration gone",
            Self::CredentialGone => "credential gone",
            Self::TimeMissing(..) => "time missing",
            Self::TimeUnexpected(..) => "time unexpected",
            Self::TimesOutOfOrder { .. } => "times out of order",
            Self::MaterialMissing => "material missing",
            Self::MaterialLeft => "material left",
            Self::RecordMissing => "record missing",
            Self::StillWraps(_) => "still wraps",
            Self::NoActiveKey => "no active key",
            Self::SeveralActiveKeys(_) => "several active keys",
        };
        kind.to_owned()
    }

    /// What is wrong with an integration's row, without saying whose it is again.
    pub(in crate::vault) fn of_row(integration: IntegrationId, error: &Error) -> Self {
        let message = error.to_string();
        let whose = format!("credential of integration {integration}: ");
        Self::DoesNotOpen(error.kind(), message.strip_prefix(&whose).unwrap_or(&message).to_owned())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::DoesNotOpen(error.kind(), error.to_string())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row { integration, problem } => write!(f, "integration {integration}: {problem}"),
            Self::Key { key, problem } => write!(f, "data key {key}: {problem}"),
            Self::KeyRecord { problem } => write!(f, "{problem}"),
            Self::Scope { organization: None, problem } => write!(f, "shared data keys: {problem}"),
            Self::Scope { organization: Some(organization), problem } => {
                write!(f, "data keys of organization {organization}: {problem}")
            }
            Self::MasterKey { key, problem } => write!(f, "master key {key}: {problem}"),
            Self::MasterKeys { problem } => write!(f, "master keys: {problem}"),
            Self::Quarantine { integration, problem } => {
                write!(f, "quarantine of integration {integration}: {problem}")
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DoesNotOpen(kind, message) => write!(f, "{kind}: {message}"),
            Self::ExpiryDiffers => f.write_str("the column expires_at differs from the sealed expiry"),
            Self::KeyGone(key) => write!(f, "its data key {key} has no material, so nothing opens it"),
            Self::IntegrationGone => f.write_str("there is no such integration, and a credential of it"),
            Self::CredentialGone => f.write_str("there is no such credential any more"),
            Self::TimeMissing(state, column) => write!(f, "it is {} without {column}", state.as_str()),
            Self::TimeUnexpected(state, column) => write!(f, "it is {} and has {column}", state.as_str()),
            Self::TimesOutOfOrder { earlier, later } => write!(f, "its {later} is before its {earlier}"),
            Self::MaterialMissing => f.write_str("it has no material, so nothing opens what it sealed"),
            Self::MaterialLeft => f.write_str("it is destroyed, and its material is still there"),
            Self::RecordMissing => f.write_str("it has material and no record"),
            Self::StillWraps(keys) => write!(f, "it is destroyed and still wraps data keys: {keys}"),
            Self::NoActiveKey => f.write_str("none is active"),
            Self::SeveralActiveKeys(keys) => write!(f, "{keys} are active, where one may be"),
        }
    }
}
