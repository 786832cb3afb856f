//! Calls that somebody in front of the gateway repeats without being asked: a sidecar, or a client's
//! library.
//!
//! Such a repeat says so (`x-envoy-attempt-count`, `grpc-previous-rpc-attempts`), and carries the
//! `x-request-id` of the first attempt. What this process remembers of that attempt decides about it. A
//! create without a `request_id` is answered with what became of the first one. Any other call is tried
//! `--max-attempts` times, its repeats and the gateway's own attempts together. Sends nothing itself.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::memory::{Memory, Name};
use crate::{
    context::{Arrival, Context, NamedBy, Progress},
    error::{Error, Kind, Sent, Write},
    rest::Call,
};

/// Creates that are remembered, and how long.
const MAX_CREATES: usize = 4096;
const CREATES_KEPT: Duration = Duration::from_secs(600);
/// Bytes of a response that is remembered. Of a larger one no more is known than that it was.
const MAX_RESPONSE: usize = 4096;

/// Other calls, which failed. Proxies repeat within seconds.
const MAX_FAILED: usize = 1000;
const FAILED_KEPT: Duration = Duration::from_secs(60);

/// Shared by all workers.
#[derive(Debug)]
pub(super) struct Repeats {
    creates: Memory<Fate>,
    failed: Memory<Before>,
}

/// What is remembered of a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is under way.
    Pending,
    /// It was applied, with this response unless that was large.
    Applied(Option<Bytes>),
    /// Nobody knows.
    Unknown(SystemTime),
}

/// What was made of a call before it was repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// Attempts, each of which may have arrived.
    pub(super) attempts: u32,
    /// What the last one came to.
    pub(super) kind: Kind,
}

/// A create that is under way. Dropped, it is remembered by the evidence.
pub(super) struct UnderWay<'a> {
    creates: &'a Memory<Fate>,
    name: Name,
    began: SystemTime,
    progress: Progress,
    open: bool,
}

impl Repeats {
    pub(super) fn new() -> Self {
        Self {
            creates: Memory::new(MAX_CREATES, CREATES_KEPT),
            failed: Memory::new(MAX_FAILED, FAILED_KEPT),
        }
    }

    /// The name of a create.
    pub(super) fn name(&self, call: &Call, context: &Context) -> Name {
        self.creates.name(call, context)
    }

    /// What became of a create.
    pub(super) fn fate(&self, name: Name) -> Option<Fate> {
        self.creates.find(name)
    }

    /// Remembers a create that begins.
    pub(super) fn begin(&self, name: Name, progress: &Progress) -> UnderWay<'_> {
        self.creates.remember(name, Fate::Pending);
        #[expect(clippy::disallowed_methods, reason = "callers are told when it was")]
        let began = SystemTime::now();
        UnderWay {
            creates: &self.creates,
            name,
            began,
            progress: progress.clone(),
            open: true,
        }
    }

    /// What is known of a call that may be repeated and says that it is a repeat.
    pub(super) fn before(&self, call: &Call, context: &Context) -> Option<Before> {
        let is_repeat = context.named_by == NamedBy::Caller && context.arrival == Arrival::Repeat;
        let name = || self.failed.name(call, context);
        is_repeat.then(name).and_then(|name| self.failed.find(name))
    }

    /// Remembers a call that may be repeated and failed. Where nothing of it can have been taken,
    /// whoever repeats it does no harm.
    pub(super) fn failed(
        &self,
        call: &Call,
        context: &Context,
        error: &Error,
        before: Option<Before>,
    ) {
        match (context.named_by, error.write()) {
            (NamedBy::Caller, Write::Unknown) => {}
            (_, Write::Unknown | Write::NotSent | Write::Rejected | Write::Applied) => return,
        }
        let earlier = before.map_or(0, |before| before.attempts);
        let before = Before {
            attempts: earlier.saturating_add(context.progress.attempts()),
            kind: error.kind,
        };
        self.failed
            .remember(self.failed.name(call, context), before);
    }
}

impl UnderWay<'_> {
    /// It was applied, with this response if it could be read.
    pub(super) fn applied(mut self, response: Option<Vec<u8>>) {
        let response = response.filter(|response| response.len() <= MAX_RESPONSE);
        self.remember(Fate::Applied(response.map(Bytes::from)));
    }

    /// Nobody knows what became of it.
    pub(super) fn unknown(mut self) {
        self.remember(Fate::Unknown(self.began));
    }

    /// Nothing was applied.
    pub(super) fn free(mut self) {
        self.forget();
    }

    fn remember(&mut self, fate: Fate) {
        self.open = false;
        self.creates.amend(self.name, fate);
    }

    fn forget(&mut self) {
        self.open = false;
        self.creates.forget(self.name);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        match (self.open, self.progress.sent()) {
            (false, _) => {}
            (true, Sent::No) => self.forget(),
            (true, Sent::Maybe) => self.remember(Fate::Unknown(self.began)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue, Method, uri::PathAndQuery};
    use tokio::time::{Instant, advance};

    use crate::{error::Answer, rest::Names};

    #[tokio::test(start_paused = true)]
    async fn what_became_of_a_create_is_remembered() {
        let repeats = Repeats::new();
        let begin = |number| repeats.begin(Name(number), &Progress::default());
        let under_way = begin(1);
        assert_eq!(repeats.fate(Name(1)), Some(Fate::Pending));
        under_way.applied(Some(b"event".to_vec()));
        let event = Bytes::from_static(b"event");
        assert_eq!(repeats.fate(Name(1)), Some(Fate::Applied(Some(event))));
        begin(2).applied(Some(vec![0; MAX_RESPONSE + 1]));
        assert_eq!(repeats.fate(Name(2)), Some(Fate::Applied(None)));
        begin(3).free();
        assert_eq!(repeats.fate(Name(3)), None);
        drop(begin(4));
        assert_eq!(repeats.fate(Name(4)), None);
        let progress = Progress::default();
        progress.sending();
        drop(repeats.begin(Name(5), &progress));
        assert!(matches!(repeats.fate(Name(5)), Some(Fate::Unknown(_))));
        advance(CREATES_KEPT).await;
        assert_eq!(repeats.fate(Name(5)), None);
    }

    /// A repeat of the update with this id.
    fn update(request_id: &'static str) -> (Call, Context) {
        let headers = [("x-request-id", request_id), ("x-envoy-attempt-count", "2")];
        let headers: HeaderMap = headers
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        let call = Call {
            method: Method::PUT,
            path: PathAndQuery::from_static("/"),
            template: "/",
            site_key: "s".to_owned(),
            names: Names::default(),
            body: None,
            request_id: None,
        };
        (
            call,
            Context::new(&headers, "Update".into(), Instant::now()),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_a_call_add_up_over_its_repeats() {
        let repeats = Repeats::new();
        let attempts = |id| {
            let (call, context) = update(id);
            repeats
                .before(&call, &context)
                .map(|before| before.attempts)
        };
        for _ in 0..2 {
            let (call, context) = update("a");
            let before = repeats.before(&call, &context);
            let _ = context.progress.attempted();
            repeats.failed(&call, &context, &Error::new(Answer::Failed), before);
        }
        assert_eq!((attempts("a"), attempts("b")), (Some(2), None));
        advance(FAILED_KEPT).await;
        assert_eq!(attempts("a"), None);
    }
}
