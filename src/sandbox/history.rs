//! What the emulated OnboardFlow was sent, kept for tests to look at. Doesn't know what it means.

use std::{collections::VecDeque, fmt};

use bytes::Bytes;
use http::{HeaderMap, Method, request::Parts};

/// How many requests are kept.
const MAX_REQUESTS: usize = 1000;

/// How much their bodies may hold together, in bytes: a load of large ones must not fill memory.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// One request as it came in.
#[derive(Clone)]
#[non_exhaustive]
pub struct Received {
    /// The verb.
    pub method: Method,
    /// The path, and the query where there was one.
    pub path: String,
    /// All headers, the API key among them.
    pub headers: HeaderMap,
    /// The body's bytes; none where it was over 1 MiB and so was refused unseen.
    pub body: Bytes,
}

/// The newest requests, oldest first.
#[derive(Default)]
pub(super) struct History {
    requests: VecDeque<Received>,
    body_bytes: usize,
}

impl Received {
    pub(super) fn new(head: &Parts, body: Bytes) -> Self {
        Self {
            method: head.method.clone(),
            path: head
                .uri
                .path_and_query()
                .map(ToString::to_string)
                .unwrap_or_default(),
            headers: head.headers.clone(),
            body,
        }
    }
}

/// Shows neither headers nor body: they hold the key and a customer.
impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl History {
    pub(super) fn push(&mut self, request: Received) {
        self.body_bytes += request.body.len();
        self.requests.push_back(request);
        while self.requests.len() > MAX_REQUESTS || self.body_bytes > MAX_BODY_BYTES {
            let forgotten = self.requests.pop_front();
            self.body_bytes -= forgotten.map_or(0, |request| request.body.len());
        }
    }

    pub(super) fn to_vec(&self) -> Vec<Received> {
        self.requests.iter().cloned().collect()
    }
}
