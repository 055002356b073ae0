//! Values that several arguments take.

use std::time::Duration;

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// A field's name. An empty one is an unset variable of the shell, although the vault would keep it.
pub(super) fn field_name(text: &str) -> Result<String, &'static str> {
    if text.is_empty() { Err("it is empty") } else { Ok(text.to_owned()) }
}

/// A name that SQL takes without quotes, and that has none to close.
pub(super) fn plain_name(text: &str) -> Result<String, &'static str> {
    /// PostgreSQL cuts a name at 63 bytes, and a role's goes on after its prefix.
    const MAX_CHARS: usize = 48;
    let first = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_plain = text.starts_with(first) && text.chars().all(|c| first(c) || c.is_ascii_digit());
    if is_plain && text.len() <= MAX_CHARS {
        Ok(text.to_owned())
    } else {
        Err("it is at most 48 small letters, digits and underscores, and begins with no digit")
    }
}

/// A moment as the vault keeps it: in UTC, to the microsecond.
pub(super) fn moment(text: &str) -> Result<OffsetDateTime, &'static str> {
    const FORM: &str = "it is a time such as 2027-01-31T12:00:00Z";
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| FORM)?;
    let moment = moment.checked_to_offset(UtcOffset::UTC).ok_or(FORM)?;
    moment.replace_nanosecond(moment.microsecond() * 1_000).map_err(|_| FORM)
}

/// A duration in one unit, such as 90s, 30m, 12h or 7d.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "it is a number of seconds, minutes, hours or days, such as 90s, 30m, 12h or 7d";
    const SECONDS: [(char, u64); 4] = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    /// A hundred years: no key is older, and nobody waits longer.
    const MAX: Duration = Duration::from_secs(36_525 * 86_400);
    let unit = |&(unit, seconds): &(char, u64)| Some((text.strip_suffix(unit)?, seconds));
    let (number, seconds) = SECONDS.iter().find_map(unit).ok_or(FORM)?;
    let number: u32 = number.parse().map_err(|_| FORM)?;
    let duration = Duration::from_secs(u64::from(number) * seconds);
    if duration > MAX { Err("it is a hundred years at most") } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_kept_in_utc_to_the_microsecond() {
        use time::macros::datetime;
        assert_eq!(
            moment("2027-01-31T13:00:00.1234569+01:00"),
            Ok(datetime!(2027-01-31 12:00:00.123456 UTC))
        );
        for text in ["", "2027-01-31", "2027-01-31T12:00:00", "9999-12-31T23:59:59-01:00"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_a_number_with_its_unit() {
        for (text, seconds) in [
            ("90s", 90),
            ("30m", 1_800),
            ("12h", 43_200),
            ("90d", 7_776_000),
            ("0d", 0),
            ("36525d", 3_155_760_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "7", "d", "-1d", "1w", "1.5d", "1h30m", "4294967295d", "36526d", "5ü"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
