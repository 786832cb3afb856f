//! What belongs to one call besides its message, and travels with it from the listener to the upstream. Knows
//! no message, and no connection.

mod trace;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use tokio::time::Instant;
use uuid::Builder;

use crate::{
    callers::Caller,
    error::{Error, Refusal, Sent},
    rest::Purpose,
};

pub use self::trace::{Passed, Recorded, Trace};

/// The metadata key that names a call in every log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Says that the caller's own could not be used.
pub const REQUEST_ID_REPLACED: HeaderName = HeaderName::from_static("x-request-id-replaced");
/// Envoy's number of this attempt, from 1 on.
const ENVOY_ATTEMPT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
/// How many attempts a gRPC client made before this one.
const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Longest request id that is taken over from a caller.
const MAX_REQUEST_ID: usize = 128;

/// What belongs to one call besides its message.
#[derive(Clone, Debug)]
pub struct Context {
    /// Names the call: the caller's own id, or one made here.
    pub request_id: HeaderValue,
    /// Whose the request id is.
    pub named_by: NamedBy,
    /// Whether the call was sent before.
    pub arrival: Arrival,
    /// When the call has to be over.
    pub deadline: Instant,
    /// The caller's `authorization` metadata.
    pub authorization: Option<HeaderValue>,
    /// What is called, without its service, as in `CreateCustomer`.
    pub method: Arc<str>,
    /// Who calls, where callers are identified.
    pub caller: Option<Arc<Caller>>,
    /// How far the call has come.
    pub progress: Progress,
    /// The call's place in a trace.
    pub trace: Trace,
}

/// Who chose a call's request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The caller.
    Caller,
    /// The gateway, as the caller chose none.
    Gateway,
    /// The gateway, as the caller's can't be used: it is empty, longer than 128 characters, or holds
    /// something other than visible ASCII.
    GatewayInstead,
}

/// Whether a call says that it was sent before. Whoever repeats it then (a mesh's sidecar, a client's
/// retry policy) does so once more if it has to, so the gateway doesn't repeat it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It doesn't say so.
    First,
    /// `x-envoy-attempt-count` is above 1, or `grpc-previous-rpc-attempts` above 0.
    Repeat,
}

impl Context {
    /// The context of a call of this method that arrived with these headers.
    pub fn new(headers: &HeaderMap, method: Arc<str>, deadline: Instant) -> Self {
        let mut authorization = headers.get(AUTHORIZATION).cloned();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let (request_id, named_by) = request_id(headers);
        Self {
            request_id,
            named_by,
            arrival: arrival(headers),
            deadline,
            authorization,
            method,
            caller: None,
            progress: Progress::default(),
            trace: Trace::None,
        }
    }

    /// Whether its caller may make this call to this site.
    pub fn check_caller(&self, site: &str) -> Result<(), Error> {
        let Some(caller) = &self.caller else {
            return Ok(());
        };
        let method = &*self.method;
        caller.may(method, site).map_err(|name| {
            let says = format!("{name} may not call {method} for this site");
            Error::new(Refusal::CallerNotAllowed).saying(says)
        })
    }

    /// The moment halfway from now to the deadline.
    pub fn halfway(&self) -> Instant {
        let now = Instant::now();
        now + self.deadline.saturating_duration_since(now) / 2
    }

    /// The request id as text.
    pub fn request_id(&self) -> &str {
        // `request_id` lets only visible ASCII through.
        self.request_id.to_str().unwrap_or_default()
    }

    /// True where the request id stands for one that can't be used, for the log.
    pub fn replaced_request_id(&self) -> Option<bool> {
        (self.named_by == NamedBy::GatewayInstead).then_some(true)
    }
}

fn request_id(headers: &HeaderMap) -> (HeaderValue, NamedBy) {
    let is_usable = |id: &HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let (mut id, named_by) = match headers.get(&REQUEST_ID) {
        Some(id) if is_usable(id) => (id.clone(), NamedBy::Caller),
        Some(_) => (made_request_id(), NamedBy::GatewayInstead),
        None => (made_request_id(), NamedBy::Gateway),
    };
    // Not a secret, but another one each time: HPACK's tables, here and at the caller's, would make
    // room for it and never see it again.
    id.set_sensitive(true);
    (id, named_by)
}

fn arrival(headers: &HeaderMap) -> Arrival {
    let is_above = |name: &HeaderName, most: u32| {
        let number = headers.get(name).and_then(|value| value.to_str().ok());
        number.is_some_and(|number| number.parse().is_ok_and(|number: u32| number > most))
    };
    if is_above(&ENVOY_ATTEMPT, 1) || is_above(&PREVIOUS_ATTEMPTS, 0) {
        Arrival::Repeat
    } else {
        Arrival::First
    }
}

/// A `UUIDv7`. `Uuid::now_v7` would ask the kernel for its random bits at each call, and take a lock
/// that all workers share; an id that only has to differ from others doesn't need either.
fn made_request_id() -> HeaderValue {
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing depends on it but the order of ids"
    )]
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let millis = u64::try_from(since_epoch.as_millis()).unwrap_or_default();
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    let id = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// How far a call has come, as evidence: set by the transport when it happens, read by whoever has
/// to say what became of the write, and by the log.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Steps>);

#[derive(Debug, Default)]
struct Steps {
    purpose: OnceLock<Purpose>,
    sending: AtomicBool,
    attempts: AtomicU32,
    upstream_micros: AtomicU64,
}

impl Progress {
    /// Notes what the call is about to do.
    pub fn means_to(&self, purpose: Purpose) {
        // A call does one thing.
        let _ = self.0.purpose.set(purpose);
    }

    /// What the call does, once that is known.
    pub fn purpose(&self) -> Option<Purpose> {
        self.0.purpose.get().copied()
    }

    /// Notes that some of the request may have left. That stays true whatever later attempts do.
    pub fn sending(&self) {
        self.0.sending.store(true, Ordering::Relaxed);
    }

    /// Takes back what [`Self::sending`] noted too early: it turned out that nothing was taken.
    pub fn not_sent(&self) {
        self.0.sending.store(false, Ordering::Relaxed);
    }

    /// Whether any byte of the request can have left.
    pub fn sent(&self) -> Sent {
        if self.0.sending.load(Ordering::Relaxed) {
            Sent::Maybe
        } else {
            Sent::No
        }
    }

    /// Notes an attempt at OnboardFlow that begins, and says how many there were before.
    #[must_use]
    pub fn attempted(&self) -> u32 {
        self.0.attempts.fetch_add(1, Ordering::Relaxed)
    }

    /// Attempts at OnboardFlow so far.
    pub fn attempts(&self) -> u32 {
        self.0.attempts.load(Ordering::Relaxed)
    }

    /// Notes the time that an attempt took.
    pub fn spent_upstream(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.upstream_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Time that attempts took so far.
    pub fn upstream(&self) -> Duration {
        Duration::from_micros(self.0.upstream_micros.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_that_it_was_sent_before() {
        for (name, value, arrival) in [
            ("x-envoy-attempt-count", "1", Arrival::First),
            ("x-envoy-attempt-count", "2", Arrival::Repeat),
            ("grpc-previous-rpc-attempts", "0", Arrival::First),
            ("grpc-previous-rpc-attempts", "1", Arrival::Repeat),
            ("grpc-previous-rpc-attempts", "-1", Arrival::First),
            ("x-envoy-attempt-count", "many", Arrival::First),
        ] {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]);
            let context = Context::new(&headers, "Create".into(), Instant::now());
            assert_eq!(context.arrival, arrival, "{name}: {value}");
        }
    }
}
