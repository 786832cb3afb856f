//! Calls that failed, by their request id, so that those who repeat them in front of the gateway and
//! the gateway's own attempts come to `--max-attempts` together.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderValue;
use tokio::time::Instant;

use crate::{
    context::{Arrival, Context},
    error::{Error, Kind, Write},
};

/// Calls that are remembered. Their ids have 128 bytes at most.
const MAX_CALLS: usize = 1000;
/// How long. Proxies repeat within seconds.
const LONGEST: Duration = Duration::from_secs(60);

/// Shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<VecDeque<Failed>>);

/// A call that failed, and whose fate is unknown.
#[derive(Clone, Debug)]
struct Failed {
    request_id: HeaderValue,
    at: Instant,
    before: Before,
}

/// What was made of a call before it was repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// Attempts, each of which may have arrived.
    pub(super) attempts: u32,
    /// What the last one came to.
    pub(super) kind: Kind,
}

impl Repeats {
    /// What is known of a call that says that it is a repeat.
    pub(super) fn before(&self, context: &Context) -> Option<Before> {
        match context.arrival {
            Arrival::First => return None,
            Arrival::Repeat => {}
        }
        let failed = self.failed();
        let is_it = |failed: &&Failed| {
            failed.request_id == context.request_id && failed.at.elapsed() < LONGEST
        };
        failed.iter().rev().find(is_it).map(|failed| failed.before)
    }

    /// Notes a call that failed. Where nothing of it can have been taken, whoever repeats it does no
    /// harm.
    pub(super) fn failed_with(&self, error: &Error, context: &Context, before: Option<Before>) {
        match error.write() {
            Write::Unknown => {}
            Write::NotSent | Write::Rejected | Write::Applied => return,
        }
        let earlier = before.map_or(0, |before| before.attempts);
        let mut failed = self.failed();
        failed.retain(|failed| failed.at.elapsed() < LONGEST);
        if failed.len() >= MAX_CALLS {
            failed.pop_front();
        }
        failed.push_back(Failed {
            request_id: context.request_id.clone(),
            at: Instant::now(),
            before: Before {
                attempts: earlier.saturating_add(context.progress.attempts()),
                kind: error.kind,
            },
        });
    }

    fn failed(&self) -> MutexGuard<'_, VecDeque<Failed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tokio::time::advance;

    use super::*;
    use crate::error::Answer;

    fn repeat(id: &str) -> Context {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", HeaderValue::from_str(id).unwrap());
        headers.insert("x-envoy-attempt-count", HeaderValue::from_static("2"));
        Context::new(&headers, "".into(), Instant::now())
    }

    fn fail(repeats: &Repeats, id: &str) {
        let context = repeat(id);
        let _ = context.progress.attempted();
        let before = repeats.before(&context);
        repeats.failed_with(&Error::new(Answer::Failed), &context, before);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_a_call_add_up_over_its_repeats() {
        let repeats = Repeats::default();
        let attempts = |id| repeats.before(&repeat(id)).map(|before| before.attempts);
        fail(&repeats, "a");
        fail(&repeats, "a");
        assert_eq!((attempts("a"), attempts("b")), (Some(2), None));
        let first = Context::new(&HeaderMap::new(), "".into(), Instant::now());
        assert_eq!(repeats.before(&first), None, "no repeat");
        advance(LONGEST).await;
        assert_eq!(attempts("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_failed_are_bounded() {
        let repeats = Repeats::default();
        for id in 0..2 * MAX_CALLS {
            fail(&repeats, &id.to_string());
        }
        assert_eq!(repeats.failed().len(), MAX_CALLS);
    }
}
