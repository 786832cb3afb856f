//! Creates without a `request_id` that a proxy or a client library repeats by itself.
//!
//! Such a repeat says so (`x-envoy-attempt-count`, `grpc-previous-rpc-attempts`), and carries the
//! `x-request-id` of the first attempt. What this process remembers of that attempt answers it. It
//! remembers the last few thousand creates that a caller gave an `x-request-id`, for ten minutes.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    context::{Context, Progress},
    error::Sent,
    rest::Call,
};

/// Creates that are remembered.
const MOST: usize = 4096;
/// How long.
const KEPT: Duration = Duration::from_secs(600);
/// Bytes of a response that is remembered. Of a larger one no more is known than that it was.
const MAX_RESPONSE: usize = 4096;

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

/// Names a call: its site, its `x-request-id` and all that it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) u64, pub(super) u64);

/// Shared by all workers.
#[derive(Debug)]
pub(super) struct Recent {
    hashers: [RandomState; 2],
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    fates: HashMap<Name, Fate>,
    ages: VecDeque<(Instant, Name)>,
}

/// A create that is under way. Dropped, it is remembered by the evidence.
pub(super) struct UnderWay<'a> {
    recent: &'a Recent,
    name: Name,
    began: SystemTime,
    progress: Progress,
    open: bool,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            remembered: Mutex::default(),
        }
    }

    /// The name of a call. 128 bits under keys of this process: nobody makes two that are the same.
    pub(super) fn name(&self, call: &Call, context: &Context) -> Name {
        let parts = (
            &call.site_key,
            context.request_id.as_bytes(),
            &call.path,
            &call.body,
        );
        let [first, second] = &self.hashers;
        Name(first.hash_one(parts), second.hash_one(parts))
    }

    pub(super) fn find(&self, name: Name) -> Option<Fate> {
        self.remembered().fates.get(&name).cloned()
    }

    /// Remembers a create that begins.
    pub(super) fn begin(&self, name: Name, progress: &Progress) -> UnderWay<'_> {
        let now = Instant::now();
        let mut remembered = self.remembered();
        while let Some(&(since, oldest)) = remembered.ages.front()
            && (remembered.ages.len() >= MOST || now - since > KEPT)
        {
            remembered.ages.pop_front();
            remembered.fates.remove(&oldest);
        }
        if remembered.fates.insert(name, Fate::Pending).is_none() {
            remembered.ages.push_back((now, name));
        }
        drop(remembered);
        #[expect(clippy::disallowed_methods, reason = "callers are told when it was")]
        let began = SystemTime::now();
        UnderWay {
            recent: self,
            name,
            began,
            progress: progress.clone(),
            open: true,
        }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
        // Where it was pushed out meanwhile, it stays out.
        if let Some(remembered) = self.recent.remembered().fates.get_mut(&self.name) {
            *remembered = fate;
        }
    }

    fn forget(&mut self) {
        self.open = false;
        let mut remembered = self.recent.remembered();
        // Its place in the order of ages is given up with its age.
        remembered.fates.remove(&self.name);
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
    use tokio::time::advance;

    use super::*;

    fn begin(recent: &Recent, number: u64) -> UnderWay<'_> {
        recent.begin(Name(number, 0), &Progress::default())
    }

    #[tokio::test(start_paused = true)]
    async fn what_became_of_a_create_is_remembered_for_ten_minutes() {
        let recent = Recent::new();
        let under_way = begin(&recent, 1);
        assert_eq!(recent.find(Name(1, 0)), Some(Fate::Pending));
        under_way.applied(Some(b"event".to_vec()));
        let event = Bytes::from_static(b"event");
        assert_eq!(recent.find(Name(1, 0)), Some(Fate::Applied(Some(event))));
        begin(&recent, 2).free();
        assert_eq!(recent.find(Name(2, 0)), None);
        let progress = Progress::default();
        progress.sending();
        drop(recent.begin(Name(3, 0), &progress));
        assert!(matches!(recent.find(Name(3, 0)), Some(Fate::Unknown(_))));

        advance(KEPT + Duration::from_secs(1)).await;
        begin(&recent, 4).unknown();
        assert_eq!(recent.find(Name(1, 0)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn creates_that_are_remembered_are_bounded() {
        let recent = Recent::new();
        for number in 0..20_000 {
            begin(&recent, number).applied(Some(vec![0; MAX_RESPONSE + 1]));
            begin(&recent, number).free();
            begin(&recent, number).unknown();
        }
        let remembered = recent.remembered();
        assert!(remembered.ages.len() <= MOST && remembered.fates.len() <= MOST);
        drop(remembered);
        assert_eq!(recent.find(Name(0, 0)), None);
        assert!(matches!(
            recent.find(Name(19_999, 0)),
            Some(Fate::Unknown(_))
        ));
    }
}
