//! Calls that may be repeated and failed, by their request id and all that they say, so that those who
//! repeat them in front of the gateway and the gateway's own attempts come to `--max-attempts`
//! together. Creates are the business of [`super::recent`].

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::recent::Name;
use crate::{
    context::Progress,
    error::{Error, Kind, Write},
};

/// Calls that are remembered.
const MAX_CALLS: usize = 1000;
/// How long. Proxies repeat within seconds.
const LONGEST: Duration = Duration::from_secs(60);

/// Shared by all workers.
#[derive(Debug, Default)]
pub(super) struct Repeats(Mutex<VecDeque<Failed>>);

/// A call that failed, and whose fate is unknown.
#[derive(Clone, Debug)]
struct Failed {
    name: Name,
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
    pub(super) fn before(&self, name: Name) -> Option<Before> {
        let failed = self.failed();
        let is_it = |failed: &&Failed| failed.name == name && failed.at.elapsed() < LONGEST;
        failed.iter().rev().find(is_it).map(|failed| failed.before)
    }

    /// Notes a call that failed. Where nothing of it can have been taken, whoever repeats it does no
    /// harm.
    pub(super) fn failed_with(
        &self,
        name: Name,
        error: &Error,
        progress: &Progress,
        before: Option<Before>,
    ) {
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
            name,
            at: Instant::now(),
            before: Before {
                attempts: earlier.saturating_add(progress.attempts()),
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
    use tokio::time::advance;

    use super::*;
    use crate::error::Answer;

    fn fail(repeats: &Repeats, name: Name) {
        let progress = Progress::default();
        let _ = progress.attempted();
        let before = repeats.before(name);
        repeats.failed_with(name, &Error::new(Answer::Failed), &progress, before);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_at_a_call_add_up_over_its_repeats() {
        let repeats = Repeats::default();
        let (a, b) = (Name(1, 1), Name(1, 2));
        let attempts = |name| repeats.before(name).map(|before| before.attempts);
        fail(&repeats, a);
        fail(&repeats, a);
        assert_eq!((attempts(a), attempts(b)), (Some(2), None));
        advance(LONGEST).await;
        assert_eq!(attempts(a), None);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_failed_are_bounded() {
        let repeats = Repeats::default();
        for number in 0..2 * MAX_CALLS {
            fail(&repeats, Name(number as u64, 0));
        }
        assert_eq!(repeats.failed().len(), MAX_CALLS);
    }
}
