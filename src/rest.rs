//! Plain data between translation and transport.
//!
//! Translation makes a [`Call`] and reads a [`Reply`]; transport carries them. Neither knows the
//! other, and both can be built by hand in a test.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, uri::PathAndQuery};

/// What a call does to OnboardFlow's records, and so whether it may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Every call records another event: there is no idempotency key. Repeated only where it
    /// provably never left.
    Creates,
    /// The same call again leaves the same state.
    Updates,
}

/// One REST call, ready to be sent, as often as its [`Effect`] allows: cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Call {
    /// The verb.
    pub method: Method,
    /// Path below the upstream's base URL, trailing slash included.
    pub path: PathAndQuery,
    /// The site that the call is for: some sites have an API key of their own.
    pub site_key: String,
    /// The JSON document.
    pub body: Bytes,
}

/// What came back, whatever its status: a refusal is an answer too.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// `Retry-After`, counted from the arrival of the reply.
    pub retry_after: Option<Duration>,
    /// The body, as much of it as was read.
    pub body: Bytes,
    /// How the body ended.
    pub ending: Ending,
    /// Whose key the call carried, and so who is to blame for a 401.
    pub key_holder: KeyHolder,
}

/// How the body of a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was read to its end.
    Complete,
    /// It was longer than the gateway reads (`--max-response-bytes`).
    TooLarge,
    /// The connection failed before its end.
    CutShort,
}

/// Whose API key a call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyHolder {
    /// The gateway's own (`--credentials gateway`).
    Gateway,
    /// The caller's, passed on (`--credentials caller`).
    Caller,
}
