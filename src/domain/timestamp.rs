//! Points in time, to the millisecond, always UTC.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds since the Unix epoch. As text (and in JSON) RFC 3339 in UTC with exactly three decimals; in binary
/// encodings a plain integer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// One instant, read from both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The wall clock. Corrections may set it forward or back. Starts and ends of drops follow it.
    pub wall: Timestamp,
    /// The monotonic clock. Durations such as holds are measured by it; its absolute value means nothing.
    pub steady: Timestamp,
}

/// For callers with a single clock, such as tests: both clocks show the same.
impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self { wall: at, steady: at }
    }
}

/// 9999-12-31T23:59:59.999Z, the last instant that RFC 3339 can write.
const LAST_MS: i64 = 253_402_300_799_999;

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the epoch, cut to the years 1970 to 9999.
    #[must_use]
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, LAST_MS))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// This instant and `millis` more.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// How many milliseconds `self` is after `earlier`, zero if it is not.
    #[must_use]
    pub fn millis_since(self, earlier: Timestamp) -> i64 {
        (self.0 - earlier.0).max(0)
    }

    /// The text in ASCII, written digit by digit: an answer has half a dozen of them.
    #[must_use]
    pub fn to_rfc3339(self) -> [u8; 24] {
        let mut text = *b"1970-01-01T00:00:00.000Z";
        // Always in range, see `from_millis`.
        let t = OffsetDateTime::from_unix_timestamp(self.0 / 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let mut put = |from: usize, digits: usize, mut number: u32| {
            for place in text[from..from + digits].iter_mut().rev() {
                *place = b'0' + (number % 10) as u8;
                number /= 10;
            }
        };
        put(0, 4, t.year().unsigned_abs());
        put(5, 2, u8::from(t.month()).into());
        put(8, 2, t.day().into());
        put(11, 2, t.hour().into());
        put(14, 2, t.minute().into());
        put(17, 2, t.second().into());
        put(20, 3, (self.0 % 1_000) as u32);
        text
    }
}

fn as_text(text: &[u8; 24]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(as_text(&self.to_rfc3339()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not an RFC 3339 time between 1970 and 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATimestamp;

impl fmt::Display for NotATimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time is RFC 3339, such as 2026-01-31T18:00:00.000Z")
    }
}

impl std::error::Error for NotATimestamp {}

impl FromStr for Timestamp {
    type Err = NotATimestamp;
    /// Accepts any offset and converts it to UTC; digits past the millisecond are cut.
    fn from_str(text: &str) -> Result<Self, NotATimestamp> {
        // Not by way of the date in UTC: with an offset, that may lie beyond the years that the library supports.
        let t = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| NotATimestamp)?;
        let millis = i64::try_from(t.unix_timestamp_nanos().div_euclid(1_000_000)).map_err(|_| NotATimestamp)?;
        if (0..=LAST_MS).contains(&millis) { Ok(Self(millis)) } else { Err(NotATimestamp) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(as_text(&self.to_rfc3339()))
        } else {
            serializer.serialize_i64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            i64::deserialize(deserializer).map(Self::from_millis)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_has_three_decimals_and_a_z() {
        assert_eq!(Timestamp::from_millis(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(1_767_225_600_005).to_string(), "2026-01-01T00:00:00.005Z");
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        // A leap day, then values over the whole range: the library reads every text that this code writes.
        assert_eq!(Timestamp::from_millis(1_709_251_199_987).to_string(), "2024-02-29T23:59:59.987Z");
        for millis in (0..=LAST_MS).step_by(8_640_012_345_678) {
            let at = Timestamp::from_millis(millis);
            assert_eq!(at.to_string().parse(), Ok(at));
        }
    }

    #[test]
    fn parses_any_offset_and_refuses_the_rest() {
        let utc: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!("2026-01-01T02:30:00.0009+02:30".parse(), Ok(utc));
        for bad in ["", "yesterday", "2026-01-01", "2026-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "2026-01-01 00:00"] {
            assert_eq!(bad.parse::<Timestamp>(), Err(NotATimestamp), "{bad}");
        }
    }

    #[test]
    fn the_ends_of_the_calendar_are_in_or_out_and_nothing_else() {
        let read = |text: &str| text.parse::<Timestamp>().map(Timestamp::as_millis);
        assert_eq!(read("9999-12-31T23:59:59.999Z"), Ok(LAST_MS));
        assert_eq!(read("9999-12-31T23:59:59.999999999Z"), Ok(LAST_MS));
        assert_eq!(read("9999-12-31T23:59:59+23:59"), Ok(LAST_MS - 999 - 86_340_000));
        assert_eq!(read("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(read("1970-01-01T23:59:00+23:59"), Ok(0));
        assert_eq!(read("1969-12-31T00:01:00-23:59"), Ok(0));
        for hour in 0..24 {
            for minute in 0..60 {
                let offset = format!("-{hour:02}:{minute:02}");
                let beyond = read(&format!("9999-12-31T23:59:59{offset}"));
                assert_eq!(beyond.is_ok(), (hour, minute) == (0, 0), "{offset}");
                assert!(read(&format!("0000-01-01T00:00:00{offset}")).is_err(), "{offset}");
                assert!(read(&format!("0000-01-01T00:00:00+{hour:02}:{minute:02}")).is_err(), "{offset}");
            }
        }
        for bad in
            ["10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z", "9999-12-31T24:00:00Z", "9999-12-31T23:59:59-24:00"]
        {
            assert_eq!(read(bad), Err(NotATimestamp), "{bad}");
        }
    }

    #[test]
    fn round_trips_as_text() {
        for millis in [0, 1, 999, 1_000, 951_782_400_123, LAST_MS] {
            let t = Timestamp::from_millis(millis);
            assert_eq!(t.to_string().parse(), Ok(t));
        }
    }
}
