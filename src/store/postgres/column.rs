//! How PostgreSQL spells ids, times and text.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};
use uuid::Uuid;

use crate::store::column::{Id, Text, Time};

impl Type<Postgres> for Id {
    fn type_info() -> PgTypeInfo {
        <Uuid as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for Id {
    fn array_type_info() -> PgTypeInfo {
        Uuid::array_type_info()
    }
}

impl Encode<'_, Postgres> for Id {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&self.0, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Id {
    fn decode(value: PgValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        Decode::<Postgres>::decode(value).map(Self)
    }
}

/// A tuple's identifier, the block and the item in it: `tid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Tid(pub(in crate::store) u32, pub(in crate::store) u16);

impl Tid {
    /// The object ids of `tid` and `tid[]`, fixed in PostgreSQL's catalogue (pg_type.dat).
    const TID: PgTypeInfo = PgTypeInfo::with_oid(Oid(27));
    const TID_ARRAY: PgTypeInfo = PgTypeInfo::with_oid(Oid(1010));
}

impl Type<Postgres> for Tid {
    fn type_info() -> PgTypeInfo {
        Self::TID
    }
}

impl PgHasArrayType for Tid {
    fn array_type_info() -> PgTypeInfo {
        Self::TID_ARRAY
    }
}

/// In its binary form each is big-endian (tidsend).
impl Encode<'_, Postgres> for Tid {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(&self.0.to_be_bytes());
        buffer.extend_from_slice(&self.1.to_be_bytes());
        Ok(IsNull::No)
    }
}

impl<'r> Decode<'r, Postgres> for Tid {
    fn decode(value: PgValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        match *value.as_bytes()? {
            [a, b, c, d, e, f] => Ok(Self(u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]))),
            _ => Err("a tid has six bytes".into()),
        }
    }
}

impl Type<Postgres> for Text {
    fn type_info() -> PgTypeInfo {
        <String as Type<Postgres>>::type_info()
    }

    /// By the object ids of `text` and `varchar` first: sqlx's own list, with a type by name in it, is made anew each time.
    fn compatible(ty: &PgTypeInfo) -> bool {
        matches!(ty.oid(), Some(Oid(25 | 1043))) || <String as Type<Postgres>>::compatible(ty)
    }
}

impl<'r> Decode<'r, Postgres> for Text {
    fn decode(value: PgValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        Decode::<Postgres>::decode(value).map(Self)
    }
}

impl Time {
    /// PostgreSQL counts its microseconds from 2000-01-01.
    const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
    /// The object ids of `timestamp` and `timestamp[]`, fixed in PostgreSQL's catalogue (pg_type.dat).
    const TIMESTAMP: PgTypeInfo = PgTypeInfo::with_oid(Oid(1114));
    const TIMESTAMP_ARRAY: PgTypeInfo = PgTypeInfo::with_oid(Oid(1115));
}

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        Self::TIMESTAMP
    }
}

impl PgHasArrayType for Time {
    fn array_type_info() -> PgTypeInfo {
        Self::TIMESTAMP_ARRAY
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> std::result::Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0.saturating_sub(Self::POSTGRES_EPOCH), buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Time {
    /// `infinity` and `-infinity` are the ends of the range; added up they stay outside every year that counts.
    fn decode(value: PgValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        <i64 as Decode<Postgres>>::decode(value).map(|at| Self(at.saturating_add(Self::POSTGRES_EPOCH)))
    }
}
