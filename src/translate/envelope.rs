//! The envelope around every reply: `success`, and in `data` the event that was recorded. What that
//! event is about is each resource's to say.

use std::cell::Cell;

use serde::{
    Deserialize, Deserializer as _,
    de::{self, DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    json::FromJson,
    rejection,
    time::{Millis, Seconds, whole_number},
};
use crate::{
    error::{Answer, Error},
    rest::{Effect, Ending, Reply},
};

/// Most unknown fields that one reply is asked for, and bytes of the path of each.
const MAX_UNKNOWN: usize = 16;
const MAX_UNKNOWN_PATH: usize = 256;

/// The envelope. Any field may be missing or null. The event is boxed, as it is moved often.
#[derive(Debug, Deserialize)]
struct Envelope<M> {
    success: Option<bool>,
    data: Option<Box<Event<M>>>,
}

/// The event in an envelope, with what it is about: [`Meta`], or what a caller sent.
#[expect(clippy::struct_field_names, reason = "the names are the JSON's")]
#[derive(Debug, Deserialize)]
pub(super) struct Event<M> {
    pub(super) id: Option<Id>,
    pub(super) event_provider: Option<String>,
    pub(super) site_user: Option<FromJson>,
    pub(super) site_hash: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) event_date: Option<Millis>,
    pub(super) event_value: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) event_meta: Option<M>,
    pub(super) updated: Option<Millis>,
    pub(super) created: Option<Millis>,
}

/// Makes a message of an event.
pub(super) type Read<M, E> = fn(Box<Event<M>>) -> Result<E, Error>;

/// An event's id.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Id(#[serde(deserialize_with = "whole_number")] pub(super) i64);

/// What an event of the API is about, with the data that its kind of record has.
#[derive(Debug, Deserialize)]
pub(super) struct Meta<D> {
    pub(super) data: Option<D>,
    pub(super) r#type: Option<String>,
    pub(super) created: Option<Seconds>,
}

/// Reads the event of a successful reply, as a message.
pub(super) fn decode<M: DeserializeOwned, E>(
    reply: &Reply,
    effect: Effect,
    field_paths: rejection::FieldPaths,
    read: Read<M, E>,
) -> Result<Option<E>, Error> {
    let event = open(reply, effect, field_paths)?.map(read).transpose();
    event.map_err(|error| error.with_status(reply.status))
}

/// The paths of fields that have no place in the envelope or in an event that is read so. In an open object,
/// each field is as good as any other.
pub(super) fn unknown_fields<M: DeserializeOwned, E>(reply: &Reply, _: Read<M, E>) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(&reply.body);
    let note = |path: serde_ignored::Path<'_>| {
        if unknown.len() < MAX_UNKNOWN {
            // `?` stands for each optional value on the way.
            let path = path.to_string().replace(".?", "");
            unknown.push(path[..path.floor_char_boundary(MAX_UNKNOWN_PATH)].to_owned());
        }
    };
    // What can't be read isn't a success.
    let _ = serde_ignored::deserialize::<_, _, Envelope<M>>(&mut json, note);
    unknown
}

/// Reads the event of a successful reply, and everything else as the failure that it is. There is
/// always an event where the effect asks for one.
///
/// `field_paths` turns the name of a field of the request's JSON into its path in the proto.
pub(super) fn open<M: DeserializeOwned>(
    reply: &Reply,
    effect: Effect,
    field_paths: rejection::FieldPaths,
) -> Result<Option<Box<Event<M>>>, Error> {
    let says_nothing = reply.ending == Ending::Complete && reply.body.is_empty();
    if reply.status.is_success() && says_nothing && !effect.answers_with_event() {
        return Ok(None);
    }
    if let Some(answer) = Answer::of_status(reply.status, effect, reply.key_holder) {
        return Err(rejection::error(answer, reply, field_paths));
    }
    let opened = match (reply.ending, parse::<Envelope<M>>(&reply.body)) {
        (Ending::Complete, Ok(opened)) => opened,
        (Ending::Complete | Ending::TooLarge | Ending::CutShort, parsed) => {
            return Err(unreadable(reply, parsed.err(), field_paths));
        }
    };
    match opened {
        Envelope {
            success: Some(true),
            data,
        } if data.is_some() || !effect.answers_with_event() => Ok(data),
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

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    // Checked as a whole, which is quicker than string by string.
    let text = str::from_utf8(body).map_err(|_| de::Error::custom("not UTF-8"))?;
    // serde would take the list of its fields for an envelope, too.
    if !text.trim_start().starts_with('{') {
        return Err(de::Error::custom("not an object"));
    }
    serde_json::from_str(text)
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
        self.is_object.set(true);
        while let Some(key) = map.next_key::<String>()? {
            if key == "success" {
                let value: &RawValue = map.next_value()?;
                self.success.set(serde_json::from_str(value.get()).ok());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::error::Kind;

    fn event_of(status: u16, body: &'static str, effect: Effect) -> Result<bool, Answer> {
        let reply = Reply {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: None,
            body: bytes::Bytes::from_static(body.as_bytes()),
            ending: Ending::Complete,
            key_holder: crate::rest::KeyHolder::Gateway,
        };
        match open::<IgnoredAny>(&reply, effect, |_| None) {
            Ok(event) => Ok(event.is_some()),
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
            assert_eq!(event_of(200, "", effect), no_content, "{effect:?}");
            assert_eq!(event_of(200, "gone", effect), unread, "{effect:?}");
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
