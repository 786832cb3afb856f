//! What belongs to one call besides its message, and travels with it from the listener to the
//! upstream.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::Sent;

/// The metadata key that names a call in every log.
pub const REQUEST_ID: &str = "x-request-id";

/// Longest request id that is taken over from a caller.
const MAX_REQUEST_ID: usize = 128;

/// What belongs to one call besides its message.
#[derive(Clone, Debug)]
pub struct Context {
    /// Names the call: the caller's own id, or one made here.
    pub request_id: HeaderValue,
    /// When the call has to be over.
    pub deadline: Instant,
    /// The caller's `authorization` metadata.
    pub authorization: Option<HeaderValue>,
    /// How far the call has come.
    pub progress: Progress,
}

impl Context {
    /// The context of a call that arrived with these headers.
    #[must_use]
    pub fn new(headers: &HeaderMap, deadline: Instant) -> Self {
        let mut authorization = headers.get(AUTHORIZATION).cloned();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Self {
            request_id: request_id(headers),
            deadline,
            authorization,
            progress: Progress::default(),
        }
    }

    /// The request id as text.
    #[must_use]
    pub fn request_id(&self) -> &str {
        // `request_id` lets only visible ASCII through.
        self.request_id.to_str().unwrap_or_default()
    }
}

fn request_id(headers: &HeaderMap) -> HeaderValue {
    let is_usable = |id: &&HeaderValue| {
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    match headers.get(REQUEST_ID).filter(is_usable) {
        Some(id) => id.clone(),
        None => made_request_id(),
    }
}

fn made_request_id() -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = Uuid::now_v7().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// How far a call has come, as evidence: set by the transport when it happens, read by whoever has
/// to say what became of the write.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicBool>);

impl Progress {
    /// Notes that the request is leaving now.
    pub fn sending(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether any byte of the request can have left.
    #[must_use]
    pub fn sent(&self) -> Sent {
        if self.0.load(Ordering::Relaxed) {
            Sent::Maybe
        } else {
            Sent::No
        }
    }
}
