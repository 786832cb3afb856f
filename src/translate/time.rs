//! Times, in the two units that the API has: requests and what stands inside `event_meta` have
//! seconds, the rest of an event has milliseconds. [`Seconds`] and [`Millis`] keep them apart.

use std::fmt;

use prost_types::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

use crate::error::{Answer, Error};

/// Unix time in milliseconds, as events have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Millis(#[serde(deserialize_with = "whole_number")] i64);

/// Unix time in seconds, as requests and `event_meta` have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Seconds(#[serde(deserialize_with = "whole_number")] i64);

/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z: what a `Timestamp` may hold.
pub(super) const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> =
    -62_135_596_800..=253_402_300_799;

/// A time that no `Timestamp` can hold.
pub(super) struct OutOfRange;

impl TryFrom<Millis> for Timestamp {
    type Error = OutOfRange;

    fn try_from(Millis(millis): Millis) -> Result<Self, OutOfRange> {
        let seconds = Self::try_from(Seconds(millis.div_euclid(1000)))?;
        // At most 999, so at most 999 million.
        let nanos = i32::try_from(millis.rem_euclid(1000) * 1_000_000).map_err(|_| OutOfRange)?;
        Ok(Self { nanos, ..seconds })
    }
}

impl TryFrom<Seconds> for Timestamp {
    type Error = OutOfRange;

    fn try_from(Seconds(seconds): Seconds) -> Result<Self, OutOfRange> {
        if TIMESTAMP_SECONDS.contains(&seconds) {
            Ok(Self { seconds, nanos: 0 })
        } else {
            Err(OutOfRange)
        }
    }
}

/// A whole number, also where it is written with a fraction of zero, as some JSON writers do.
pub(super) fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_any(WholeNumber)
}

struct WholeNumber;

impl Visitor<'_> for WholeNumber {
    type Value = i64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
        Ok(number)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<i64, E> {
        number.try_into().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<i64, E> {
        // 2^63, the first double beyond an i64.
        const LIMIT: f64 = 9_223_372_036_854_775_808.0;

        if number.fract() == 0.0 && number.abs() < LIMIT {
            #[expect(clippy::cast_possible_truncation, reason = "whole, and within range")]
            Ok(number as i64)
        } else {
            Err(E::custom("not a whole number"))
        }
    }
}

/// A time of the event, where it has one.
pub(super) fn timestamp<T>(field: &'static str, time: Option<T>) -> Result<Option<Timestamp>, Error>
where
    Timestamp: TryFrom<T>,
{
    time.map(Timestamp::try_from).transpose().map_err(|_| {
        // `success: true` was read by now.
        Error::new(Answer::Unreadable { applied: true })
            .because(format!("{field} is beyond what a timestamp holds"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(millis: i64) -> Option<(i64, i32)> {
        let timestamp = Timestamp::try_from(Millis(millis)).ok()?;
        Some((timestamp.seconds, timestamp.nanos))
    }

    #[test]
    fn milliseconds_become_timestamps() {
        assert_eq!(
            timestamp(1_585_918_703_123),
            Some((1_585_918_703, 123_000_000))
        );
        assert_eq!(timestamp(0), Some((0, 0)));
        assert_eq!(timestamp(-1), Some((-1, 999_000_000)));
        assert_eq!(timestamp(-62_135_596_800_000), Some((-62_135_596_800, 0)));
        assert_eq!(timestamp(-62_135_596_800_001), None);
        assert_eq!(
            timestamp(253_402_300_799_999),
            Some((253_402_300_799, 999_000_000))
        );
        assert_eq!(timestamp(253_402_300_800_000), None);
        assert_eq!(timestamp(i64::MIN), None);
        assert_eq!(timestamp(i64::MAX), None);
    }

    #[test]
    fn whole_numbers_are_read_however_they_are_written() {
        let read = |json| serde_json::from_str::<Millis>(json).ok().map(|Millis(n)| n);
        assert_eq!(read("1583020800000"), Some(1_583_020_800_000));
        assert_eq!(read("1583020800000.0"), Some(1_583_020_800_000));
        assert_eq!(read("-1"), Some(-1));
        for json in [
            "1.5",
            "18446744073709551615",
            "1e300",
            r#""1""#,
            "true",
            "[]",
            "null",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
