//! Protobuf on one side, REST and JSON on the other. Pure: no I/O, no clock, no async.

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

pub use self::redact::redact;
use crate::{
    error::Error,
    rest::{Call, Intent, Reply},
};

/// One RPC's mapping onto one REST call.
///
/// Both functions are pure: the same input gives the same output, and whatever bytes a reply holds,
/// `decode` neither panics nor allocates more than a small multiple of them.
pub trait Operation {
    /// What the RPC takes.
    type Request;
    /// What the RPC returns.
    type Response: prost::Message + Default;

    /// What the call does to OnboardFlow's records, and how that is said. Retries, the table of
    /// failures and their advice read this, never the verb.
    const INTENT: Intent;

    /// The REST call for a request, or every rule that the request breaks.
    fn encode(request: Self::Request) -> Result<Call, Error>;

    /// What a reply says: a success, or one of [`crate::error::Answer`].
    fn decode(reply: Reply) -> Result<Self::Response, Error>;

    /// The records that a response names, as [`Call::names`] has them.
    fn names(response: &Self::Response) -> [(&'static str, &str); 2];

    /// Paths of JSON fields of a success that the gateway doesn't know: a sign that the API has grown.
    /// Takes six times as long as `decode`, so it is asked for a sample of the replies.
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
