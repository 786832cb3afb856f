//! What this process remembers of calls that may come again: the last so many, for so long. Doesn't know what
//! is remembered of them, nor what for.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hashlink::LinkedHashMap;
use tokio::time::Instant;

use crate::{context::Context, rest::Call};

/// Names a call: its site, its `x-request-id` and all that it says. The bits are made with a key of
/// this process, so nobody can look for two calls that have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) u64);

/// Shared by all workers. Every step takes the same short time, however much is remembered.
#[derive(Debug)]
pub(super) struct Memory<T> {
    key: RandomState,
    most: usize,
    kept: Duration,
    /// Oldest first.
    calls: Mutex<LinkedHashMap<Name, Remembered<T>>>,
}

#[derive(Debug)]
struct Remembered<T> {
    since: Instant,
    what: T,
}

impl<T: Clone> Memory<T> {
    /// Of so many calls, for so long.
    pub(super) fn new(most: usize, kept: Duration) -> Self {
        Self {
            key: RandomState::new(),
            most,
            kept,
            calls: Mutex::default(),
        }
    }

    pub(super) fn name(&self, call: &Call, context: &Context) -> Name {
        Name(self.key.hash_one((
            context.request_id.as_bytes(),
            &call.site_key,
            &call.method,
            &call.path,
            &call.body,
        )))
    }

    pub(super) fn find(&self, name: Name) -> Option<T> {
        let calls = self.calls();
        let remembered = calls.get(&name)?;
        (!self.is_over(remembered)).then(|| remembered.what.clone())
    }

    /// Remembers this of a call. Older ones make room for it.
    pub(super) fn remember(&self, name: Name, what: T) {
        let since = Instant::now();
        let mut calls = self.calls();
        calls.insert(name, Remembered { since, what });
        while calls.len() > self.most
            || calls
                .front()
                .is_some_and(|(_, oldest)| self.is_over(oldest))
        {
            calls.pop_front();
        }
    }

    /// Replaces what is remembered of a call. If it had to make room, it is not remembered again.
    pub(super) fn amend(&self, name: Name, what: T) {
        if let Some(remembered) = self.calls().get_mut(&name) {
            remembered.what = what;
        }
    }

    pub(super) fn forget(&self, name: Name) {
        self.calls().remove(&name);
    }

    fn is_over(&self, remembered: &Remembered<T>) -> bool {
        remembered.since.elapsed() >= self.kept
    }

    fn calls(&self) -> MutexGuard<'_, LinkedHashMap<Name, Remembered<T>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const KEPT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_in_number_and_time() {
        let memory = Memory::new(100, KEPT);
        for number in 0..1000 {
            memory.remember(Name(number), 1);
            memory.forget(Name(number));
            memory.remember(Name(number), 2);
        }
        assert_eq!(memory.calls().len(), 100);
        assert_eq!(memory.find(Name(899)), None);
        assert_eq!(memory.find(Name(900)), Some(2));
        advance(KEPT).await;
        assert_eq!(memory.find(Name(900)), None);
        memory.remember(Name(0), 3);
        assert_eq!(memory.calls().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_made_room_is_not_amended() {
        let memory = Memory::new(1, KEPT);
        memory.remember(Name(1), "begun");
        memory.amend(Name(1), "ended");
        assert_eq!(memory.find(Name(1)), Some("ended"));
        memory.remember(Name(2), "begun");
        memory.amend(Name(1), "late");
        assert_eq!(memory.find(Name(1)), None);
    }
}
