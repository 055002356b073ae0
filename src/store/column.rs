//! How ids and times stand in a column; each dialect's file says how it spells them.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{IntegrationId, MasterKeyId, OrganizationId, VaultId};

/// A UUID: `uuid` on PostgreSQL, 36 characters of text on SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(pub(super) Uuid);

/// A time in microseconds since 1970 UTC: `timestamp` on PostgreSQL, an integer on SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) i64);

/// Text as it stands. SQLite takes any bytes for text: what is no UTF-8 reads with replacement characters, so that it
/// opens as nothing, and no list or scan ends at its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) String);

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp.as_microseconds())
    }
}

impl Time {
    /// The moment, or `None` for `infinity` and years that no credential has: such a row has no expiry.
    pub(super) fn timestamp(self) -> Option<Timestamp> {
        Timestamp::from_microseconds(self.0)
    }

    /// The moment of a column that is never empty.
    pub(super) fn timestamp_or_epoch(self) -> Timestamp {
        self.timestamp().unwrap_or(Timestamp::EPOCH)
    }
}

macro_rules! id_columns {
    ($($id:ty),*) => {$(
        impl From<$id> for Id {
            fn from(id: $id) -> Self {
                Self(id.into())
            }
        }

        impl From<Id> for $id {
            fn from(id: Id) -> Self {
                id.0.into()
            }
        }
    )*};
}

id_columns!(OrganizationId, IntegrationId, VaultId, MasterKeyId);
