//! Time, for schedules only: correctness uses no clock.

use std::fmt;

use time::{Duration, OffsetDateTime};

/// What is added to the database's `now()` wherever a schedule or a lease asks for the time.
///
/// Production uses [`DatabaseClock`]; tests move time with
#[cfg_attr(feature = "test-util", doc = "[`ManualClock`](crate::test_util::ManualClock).")]
#[cfg_attr(not(feature = "test-util"), doc = "`ManualClock` of the feature `test-util`.")]
pub trait Clock: fmt::Debug + Send + Sync {
    /// The offset from the database's clock.
    fn offset(&self) -> Duration;
}

/// The database's own clock: no offset.
#[derive(Clone, Copy, Debug, Default)]
pub struct DatabaseClock;

impl Clock for DatabaseClock {
    fn offset(&self) -> Duration {
        Duration::ZERO
    }
}

/// A moment in microseconds since 1970-01-01 UTC, in the years 0001 to 9999: what PostgreSQL keeps and the
/// stored format seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01 UTC.
    pub(crate) const EPOCH: Self = Self(0);
    pub(crate) const MIN_MICROSECONDS: i64 = -62_135_596_800_000_000;
    pub(crate) const MAX_MICROSECONDS: i64 = 253_402_300_799_999_999;

    /// The moment `microseconds` after 1970-01-01 UTC, or `None` outside the years 0001 to 9999.
    pub(crate) fn from_microseconds(microseconds: i64) -> Option<Self> {
        (Self::MIN_MICROSECONDS..=Self::MAX_MICROSECONDS)
            .contains(&microseconds)
            .then_some(Self(microseconds))
    }

    pub(crate) const fn as_microseconds(self) -> i64 {
        self.0
    }

    /// `moment` rounded down to microseconds, or `None` outside the years 0001 to 9999 UTC.
    pub(crate) fn floor(moment: OffsetDateTime) -> Option<Self> {
        let microseconds = moment.unix_timestamp_nanos().div_euclid(1_000);
        Self::from_microseconds(i64::try_from(microseconds).ok()?)
    }

    pub(crate) fn to_offset_date_time(self) -> OffsetDateTime {
        // Every value of the range above is one of `time`, too.
        OffsetDateTime::UNIX_EPOCH.saturating_add(Duration::microseconds(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn timestamps_round_down_and_stay_within_the_years_1_to_9999() {
        let before_1970 = datetime!(1969-12-31 23:59:59.999999999 UTC);
        assert_eq!(Timestamp::floor(before_1970).unwrap().as_microseconds(), -1);
        for (edge, beyond) in [
            (Timestamp::MIN_MICROSECONDS, Timestamp::MIN_MICROSECONDS - 1),
            (Timestamp::MAX_MICROSECONDS, Timestamp::MAX_MICROSECONDS + 1),
        ] {
            let moment = Timestamp::from_microseconds(edge).unwrap().to_offset_date_time();
            assert_eq!(Timestamp::floor(moment).unwrap().as_microseconds(), edge);
            assert!(Timestamp::from_microseconds(beyond).is_none());
        }
        assert_eq!(
            Timestamp::from_microseconds(Timestamp::MIN_MICROSECONDS).unwrap().to_offset_date_time(),
            datetime!(0001-01-01 00:00 UTC)
        );
    }
}
