//! Plain data between translation and transport.
//!
//! Translation makes a [`Call`] and reads a [`Reply`]; transport carries them. Neither knows the
//! other, and both can be built by hand in a test.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, uri::PathAndQuery};

/// What a call does to OnboardFlow's records, and so what may be done about one that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It adds a record: there is no idempotency key, so that the same call again adds another.
    Creates,
    /// It changes a record. The same call again leaves the same record.
    Updates,
    /// It removes a record. The same call again finds nothing to remove.
    Deletes,
}

impl Effect {
    /// Whether the call may be sent again where its fate is unknown. One that may not is repeated
    /// only where it provably never left.
    pub fn may_repeat(self) -> bool {
        match self {
            Self::Creates => false,
            Self::Updates | Self::Deletes => true,
        }
    }

    /// Whether a success has to come with the event that was recorded. Where it hasn't, a 2xx without
    /// a body is a success too.
    pub fn answers_with_event(self) -> bool {
        match self {
            Self::Creates | Self::Updates => true,
            Self::Deletes => false,
        }
    }
}

/// What an operation says for itself to those who carry its calls and know no resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// What it does.
    pub effect: Effect,
    /// What a caller is told where its fate is unknown: "the customer may have been created".
    pub may_have: &'static str,
}

/// What one call means to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purpose {
    /// What its operation does.
    pub intent: Intent,
    /// What keeps it from being recorded twice.
    pub guard: Guard,
}

/// What keeps a create from being recorded twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Its caller alone.
    Caller,
    /// The ledger, by its `request_id`.
    Ledger,
}

/// One REST call, ready to be sent, as often as its [`Effect`] allows: cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Call {
    /// The verb.
    pub method: Method,
    /// Path below the upstream's base URL, trailing slash included.
    pub path: PathAndQuery,
    /// The path as traces and metrics have it, without what differs from call to call.
    pub template: &'static str,
    /// The site that the call is for: some sites have an API key of their own.
    pub site_key: String,
    /// The records that it is about: a reply that names others is not this call's.
    pub names: Names,
    /// The JSON document, where the call has one.
    pub body: Option<Bytes>,
    /// The caller's name for the write: a UUID in its canonical form. It isn't sent.
    pub request_id: Option<String>,
}

impl Call {
    /// What it means to do, as one of this operation's.
    pub fn purpose(&self, intent: Intent) -> Purpose {
        let guard = match self.request_id {
            Some(_) => Guard::Ledger,
            None => Guard::Caller,
        };
        Purpose { intent, guard }
    }
}

/// The ids of the records that a call is about, by what they are: `customer`. An empty id names nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names([(&'static str, String); MOST_NAMES]);

/// Records that one call is about at most.
const MOST_NAMES: usize = 2;

impl Names {
    /// These.
    pub fn of<const N: usize>(names: [(&'static str, String); N]) -> Self {
        const { assert!(N <= MOST_NAMES) };
        let mut of = Self::default();
        for (place, name) in of.0.iter_mut().zip(names) {
            *place = name;
        }
        of
    }

    /// Whether a reply that names these records can be one to the call. It doesn't have to name all.
    pub fn can_be_answered_by(&self, reply: &[(&str, &str)]) -> bool {
        self.0.iter().all(|(asked, id)| {
            let named = reply.iter().find(|(what, _)| what == asked);
            let named = named.map_or("", |(_, id)| id);
            id == named || {
                let (id, named) = (id.trim(), named.trim());
                id.is_empty() || named.is_empty() || id == named
            }
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_names_another_record_is_another_calls() {
        let call = [("customer", " cus_1 "), ("subscription", "sub_1")];
        let call = Names::of(call.map(|(what, id)| (what, id.to_owned())));
        for (customer, subscription, can) in [
            ("cus_1", "sub_1", true),
            (" cus_1", "", true),
            ("", "", true),
            ("cus_2", "sub_1", false),
            ("cus_1", "sub_2", false),
            ("", "sub_2", false),
        ] {
            let reply = [("customer", customer), ("subscription", subscription)];
            assert_eq!(call.can_be_answered_by(&reply), can, "{reply:?}");
        }
        assert!(call.can_be_answered_by(&[("user", "u")]));
    }
}
