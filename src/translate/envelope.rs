//! The envelope around every reply: `success`, and in `data` the event that was recorded.
//!
//! An event tells time in two units. `event_date`, `created` and `updated` are milliseconds;
//! `event_meta.created` is seconds. [`Millis`] and [`Seconds`] keep them apart.

use std::cell::Cell;

use http::StatusCode;
use prost_types::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};

use super::{Decoded, json::FromJson, rejection, unknown};
use crate::{
    error::{Answer, Error},
    rest::{Effect, Ending, Reply},
};

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
fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_any(WholeNumber)
}

struct WholeNumber;

impl Visitor<'_> for WholeNumber {
    type Value = i64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// The envelope. Any field may be missing or null.
#[derive(Debug, Deserialize)]
struct Envelope<D> {
    success: Option<bool>,
    data: Option<Event<D>>,
}

/// The event in an envelope, with the data that its kind of record has.
#[expect(clippy::struct_field_names, reason = "the names are the JSON's")]
#[derive(Debug, Deserialize)]
pub(super) struct Event<D> {
    pub(super) id: Option<Id>,
    pub(super) event_provider: Option<String>,
    pub(super) site_user: Option<FromJson>,
    pub(super) site_hash: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) event_date: Option<Millis>,
    pub(super) event_value: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) event_meta: Option<Meta<D>>,
    pub(super) updated: Option<Millis>,
    pub(super) created: Option<Millis>,
}

/// An event's id.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Id(#[serde(deserialize_with = "whole_number")] pub(super) i64);

/// What an event is about.
#[derive(Debug, Deserialize)]
pub(super) struct Meta<D> {
    pub(super) data: Option<D>,
    pub(super) r#type: Option<String>,
    pub(super) created: Option<Seconds>,
}

/// Reads the event of a successful reply, and everything else as the failure that it is. There is
/// always an event where the effect asks for one.
///
/// `field_paths` turns the name of a field of the request's JSON into its path in the proto.
pub(super) fn open<D: DeserializeOwned>(
    reply: &Reply,
    effect: Effect,
    field_paths: rejection::FieldPaths,
) -> Result<Decoded<Option<Event<D>>>, Error> {
    if reply.status == StatusCode::NO_CONTENT && !effect.answers_with_event() {
        return Ok(Decoded {
            message: None,
            unknown_fields: Vec::new(),
        });
    }
    if let Some(answer) = Answer::of_status(reply.status, effect, reply.key_holder) {
        return Err(rejection::error(answer, reply, field_paths));
    }
    let opened = match (reply.ending, parse::<Envelope<D>>(&reply.body)) {
        (Ending::Complete, Ok(opened)) => opened,
        (Ending::Complete | Ending::TooLarge | Ending::CutShort, parsed) => {
            return Err(unreadable(reply, parsed.err(), field_paths));
        }
    };
    match opened.message {
        Envelope {
            success: Some(true),
            data,
        } if data.is_some() || !effect.answers_with_event() => Ok(Decoded {
            message: data,
            unknown_fields: opened.unknown_fields,
        }),
        Envelope {
            success: Some(true),
            data: _,
        } => Err(Error::new(Answer::Unreadable { applied: true }).because("reply without data")),
        Envelope {
            success: Some(false) | None,
            ..
        } => Err(rejection::error(Answer::RefusedInBody, reply, field_paths)),
    }
    .map_err(|error| error.with_status(reply.status))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<Decoded<T>, serde_json::Error> {
    // Checked as a whole, which is quicker than string by string.
    let text = str::from_utf8(body).map_err(|_| de::Error::custom("not UTF-8"))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let mut unknown_fields = Vec::new();
    let message = unknown::deserialize(&mut json, &mut unknown_fields)?;
    json.end()?;
    Ok(Decoded {
        message,
        unknown_fields,
    })
}

/// A success by its status that doesn't parse. As much as can be read of it still says what became
/// of the write.
fn unreadable(
    reply: &Reply,
    cause: Option<serde_json::Error>,
    field_paths: rejection::FieldPaths,
) -> Error {
    let flag = SuccessFlag::find(&reply.body);
    if flag.is_object && flag.is_whole && flag.success != Some(true) {
        return rejection::error(Answer::RefusedInBody, reply, field_paths);
    }
    let error = Error::new(Answer::Unreadable {
        applied: flag.success == Some(true),
    })
    .with_status(reply.status);
    match (reply.ending, cause) {
        (Ending::TooLarge, _) => error.because("reply larger than --max-response-bytes"),
        (Ending::CutShort, _) => error.because("connection lost within the reply"),
        // The position alone: serde's messages may quote the document.
        (Ending::Complete, Some(cause)) => {
            let (line, column) = (cause.line(), cause.column());
            error.because(format!(
                "{:?} error at line {line} column {column}",
                cause.classify()
            ))
        }
        (Ending::Complete, None) => error,
    }
}

/// What can be learnt of `success` from a document that may be cut short or otherwise broken.
#[derive(Debug, Default)]
struct SuccessFlag {
    /// The document is a JSON object, as far as it goes.
    is_object: bool,
    /// The document is whole and well-formed.
    is_whole: bool,
    /// `success`, where it was a boolean and came before the break.
    success: Option<bool>,
}

impl SuccessFlag {
    fn find(body: &[u8]) -> Self {
        let (is_object, success) = (Cell::new(false), Cell::new(None));
        let visitor = FlagVisitor {
            is_object: &is_object,
            success: &success,
        };
        let mut json = serde_json::Deserializer::from_slice(body);
        let parsed = json.deserialize_map(visitor).and_then(|()| json.end());
        Self {
            is_object: is_object.get(),
            is_whole: parsed.is_ok(),
            success: success.get(),
        }
    }
}

/// Notes what it sees at once, so that it is known even if the document breaks off later.
struct FlagVisitor<'a> {
    is_object: &'a Cell<bool>,
    success: &'a Cell<Option<bool>>,
}

impl<'de> Visitor<'de> for FlagVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Flag {
            Bool(bool),
            Other(IgnoredAny),
        }

        self.is_object.set(true);
        while let Some(key) = map.next_key::<String>()? {
            if key == "success" {
                match map.next_value()? {
                    Flag::Bool(value) => self.success.set(Some(value)),
                    Flag::Other(IgnoredAny) => self.success.set(None),
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

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

    fn event_of(status: u16, body: &'static str, effect: Effect) -> Result<bool, Answer> {
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            body: bytes::Bytes::from_static(body.as_bytes()),
            ending: Ending::Complete,
            key_holder: crate::rest::KeyHolder::Gateway,
        };
        match open::<IgnoredAny>(&reply, effect, |_| None) {
            Ok(decoded) => Ok(decoded.message.is_some()),
            Err(Error {
                kind: Kind::Answered(answer),
                ..
            }) => Err(answer),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn only_a_deletion_succeeds_without_an_event() {
        use Effect::{Creates, Deletes, Updates};

        let unread = Err(Answer::Unreadable { applied: false });
        let without_data = Err(Answer::Unreadable { applied: true });
        for (effect, no_content, no_data) in [
            (Creates, unread, without_data),
            (Updates, unread, without_data),
            (Deletes, Ok(false), Ok(false)),
        ] {
            assert_eq!(event_of(204, "", effect), no_content, "{effect:?}");
            assert_eq!(event_of(200, "", effect), unread, "{effect:?}");
            let event = event_of(200, r#"{"success":true}"#, effect);
            assert_eq!(event, no_data, "{effect:?}");
            let event = event_of(200, r#"{"success":true,"data":{"id":1}}"#, effect);
            assert_eq!(event, Ok(true), "{effect:?}");
            let refused = event_of(200, r#"{"success":false}"#, effect);
            assert_eq!(refused, Err(Answer::RefusedInBody), "{effect:?}");
        }
    }

    #[test]
    fn the_flag_is_found_in_what_there_is() {
        let find = |json: &str| {
            let flag = SuccessFlag::find(json.as_bytes());
            (flag.is_object, flag.is_whole, flag.success)
        };
        assert_eq!(
            find(r#"{"success":true,"data":{"#),
            (true, false, Some(true))
        );
        assert_eq!(
            find(r#"{"data":{},"success":false}"#),
            (true, true, Some(false))
        );
        assert_eq!(find(r#"{"success":"true"}"#), (true, true, None));
        assert_eq!(find(r#"{"data":{"success":true}}"#), (true, true, None));
        assert_eq!(find(r#"{"success":tr"#), (true, false, None));
        assert_eq!(find("null"), (false, false, None));
        assert_eq!(find("[]"), (false, false, None));
        assert_eq!(find(""), (false, false, None));
    }
}
