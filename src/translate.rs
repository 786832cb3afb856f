//! Protobuf on one side, REST and JSON on the other. Pure: no I/O, no clock, no async.

/// Responses hold one event, which is read by one function, and names records by another. They have no trait
/// in common.
macro_rules! responses {
    ($($response:ty),*: $event:path, $names:path) => {$(
        impl $crate::translate::Response for $response {
            fn read(
                reply: &$crate::rest::Reply,
                effect: $crate::rest::Effect,
                field_paths: $crate::translate::rejection::FieldPaths,
            ) -> Result<Self, $crate::error::Error> {
                let event = $crate::translate::envelope::decode(reply, effect, field_paths, $event)?;
                Ok(Self { event: event.map(Box::new) })
            }

            fn names(&self) -> [(&'static str, &str); 2] {
                self.event.as_deref().map($names).unwrap_or_default()
            }

            fn unknown_fields(reply: &$crate::rest::Reply) -> Vec<String> {
                $crate::translate::envelope::unknown_fields(reply, $event)
            }
        }
    )*};
}

#[cfg(test)]
mod bounds;
pub mod customer;
mod decimal;
mod envelope;
pub mod event;
mod json;
mod path;
mod redact;
mod rejection;
mod rules;
pub mod subscription;
mod time;

use bytes::Bytes;
use serde::Serialize;

pub use self::{redact::redact, rejection::FieldPaths};
use crate::{
    error::Error,
    rest::{Call, Effect, Intent, Reply},
};

/// One RPC's mapping onto one REST call.
///
/// All of it is pure: the same input gives the same output, and whatever bytes a reply holds, `decode`
/// neither panics nor allocates more than a small multiple of them.
pub trait Operation {
    /// What the RPC takes.
    type Request;
    /// What the RPC returns.
    type Response: Response;

    /// What the call does to OnboardFlow's records, and how that is said. Retries, the table of
    /// failures and their advice read this, never the verb.
    const INTENT: Intent;

    /// Where in the request a field of the call's JSON comes from.
    const FIELD_PATHS: FieldPaths;

    /// The REST call for a request, or every rule that the request breaks.
    fn encode(request: Self::Request) -> Result<Call, Error>;

    /// What a reply says: a success, or one of [`crate::error::Answer`].
    fn decode(reply: Reply) -> Result<Self::Response, Error> {
        Self::Response::read(&reply, Self::INTENT.effect, Self::FIELD_PATHS)
    }
}

/// What an RPC returns: the event that was recorded, where the reply had one.
pub trait Response: prost::Message + Default {
    /// The response in a reply to a call of this effect.
    fn read(reply: &Reply, effect: Effect, field_paths: FieldPaths) -> Result<Self, Error>;

    /// The records that it names, as [`Call::names`] has them.
    fn names(&self) -> [(&'static str, &str); 2];

    /// Paths of JSON fields of a success that the gateway doesn't know: a sign that the API has grown.
    /// Reads the reply a second time, so it is asked for a sample of the replies.
    fn unknown_fields(reply: &Reply) -> Vec<String>;
}

/// What the JSON of most calls fits into.
const BODY_BYTES: usize = 512;

/// The JSON of a call: maps with string keys and finite numbers, so that JSON can hold them all.
fn body(json: &impl Serialize) -> Result<Bytes, Error> {
    let mut bytes = Vec::with_capacity(BODY_BYTES);
    serde_json::to_writer(&mut bytes, json)
        .map_err(|error| Error::invalid(vec![]).because(error))?;
    Ok(bytes.into())
}

/// A reply for tests.
#[cfg(test)]
fn reply(status: http::StatusCode, body: impl Into<Bytes>, ending: crate::rest::Ending) -> Reply {
    Reply {
        status,
        retry_after: None,
        body: body.into(),
        ending,
        key_holder: crate::rest::KeyHolder::Gateway,
    }
}
