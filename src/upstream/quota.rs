//! The daily quota: calls that OnboardFlow would refuse are not made, as each of them costs.
//!
//! Two things are known of a key. OnboardFlow's own word ([`refused`]): after a 429 with
//! `Retry-After` the key is spent until then. And with `--daily-quota` the count of the calls that
//! were made with the key since midnight UTC, by this instance ([`alone`]) or by all that share a
//! ledger ([`together`]). Where callers have shares of the day, each share is counted as well.

mod alone;
mod refused;
mod shown;
mod together;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::time::Instant;
use tracing::warn;

pub(super) use self::shown::Shown;
use self::{alone::Alone, refused::Refused, together::Together};
use super::{Shared, credentials::Key};
use crate::{
    callers::{Allotment, Caller, Owner, Spent},
    config::UpstreamConfig,
    context::Progress,
    error::{Error, Refusal, Sent},
    ledger::{Account, Asked, Ledger, Take, Taken},
};

const DAY: u64 = 24 * 3600;

/// Who counts the calls of a day.
trait Counter: fmt::Debug + Send + Sync {
    /// Counts a call, if there is one left. What is not counted, as too many keys are, has none.
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Option<Taken>, Spent>>;

    /// Gives a call back that never left.
    fn give_back(&self, taken: Taken);

    /// Notes a call that the ledger counted.
    fn learn(&self, taken: &Taken);

    /// The calls of today, as far as they are known here.
    fn calls(&self, account: &Account) -> u64;
}

/// Shared by all workers.
#[derive(Debug)]
pub(super) struct Quota {
    daily: Option<u64>,
    heed_retry_after: bool,
    now: fn() -> SystemTime,
    /// Whether there is anything to look up.
    in_use: AtomicBool,
    counter: Arc<dyn Counter>,
    refused: Arc<Refused>,
}

/// A call that was let through. Dropped while nothing of it left, it counts no more.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    quota: &'a Quota,
    key: &'a Key,
    /// When it was let through.
    since: Instant,
    progress: &'a Progress,
    /// Where calls are counted. Boxed, as a call holds it to its end.
    taken: Option<Box<Taken>>,
}

impl Quota {
    /// With a ledger, what others learn is followed on the runtime that this is called in.
    pub(super) fn new(config: &UpstreamConfig, ledger: Option<&Ledger>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "quotas are per day of the calendar"
        )]
        let now = SystemTime::now;
        let refused = Arc::new(Refused::new(ledger.cloned()));
        let counter: Arc<dyn Counter> = match ledger {
            None => Arc::new(Alone::new(now)),
            Some(ledger) => {
                let together = Arc::new(Together::new(ledger.clone(), Alone::new(now)));
                let follow = together::follow(Arc::downgrade(&together), Arc::clone(&refused));
                tokio::spawn(follow);
                together
            }
        };
        Self {
            daily: config.daily_quota,
            heed_retry_after: config.heed_retry_after,
            now,
            in_use: AtomicBool::new(config.daily_quota.is_some() || ledger.is_some()),
            counter,
            refused,
        }
    }

    /// Leave for a caller to make a call with this key, which is counted; or why not, and until when.
    pub(super) async fn admit<'a>(
        &'a self,
        key: &'a Key,
        caller: Option<&Caller>,
        progress: &'a Progress,
    ) -> Result<Counted<'a>, Error> {
        let mut counted = self.uncounted(key, progress).allowed()?;
        if let Some(take) = self.take_for(key, caller) {
            let taken = self.counter.take(take).await;
            let taken = taken.map_err(|spent| self.no_more(spent))?;
            counted.taken = taken.map(Box::new);
            if let Some(taken) = &counted.taken {
                warn(key, taken);
            }
        }
        Ok(counted)
    }

    /// A call that the ledger counted when it reserved its name, or did not.
    pub(super) fn counted<'a>(
        &'a self,
        key: &'a Key,
        progress: &'a Progress,
        taken: Option<Taken>,
    ) -> Counted<'a> {
        if let Some(taken) = &taken {
            self.counter.learn(taken);
            warn(key, taken);
        }
        Counted {
            taken: taken.map(Box::new),
            ..self.uncounted(key, progress)
        }
    }

    fn uncounted<'a>(&'a self, key: &'a Key, progress: &'a Progress) -> Counted<'a> {
        Counted {
            quota: self,
            key,
            since: Instant::now(),
            progress,
            taken: None,
        }
    }

    /// What a call has to be counted for, where calls are.
    pub(super) fn take_for(&self, key: &Key, caller: Option<&Caller>) -> Option<Take> {
        let daily = self.daily?;
        let allotment = caller.and_then(|caller| caller.allotment(daily));
        Some(Take {
            all: Asked {
                account: account_of(key),
                daily,
            },
            own: allotment.map(|allotment| asked(key, &allotment)),
        })
    }

    /// Why a call is refused that there is no more of.
    pub(super) fn no_more(&self, spent: Spent) -> Error {
        let refusal = match spent {
            Spent::Day => Refusal::QuotaSpent,
            Spent::Share => Refusal::CallerQuotaSpent,
        };
        Error::new(refusal).retry_after(self.until_midnight())
    }

    fn until_midnight(&self) -> Duration {
        let since = (self.now)().duration_since(UNIX_EPOCH);
        Duration::from_secs(DAY - since.unwrap_or_default().as_secs() % DAY)
    }
}

/// Once a day, unless calls are given back and taken again.
fn warn(key: &Key, taken: &Taken) {
    let (daily, calls) = (taken.take.all.daily, taken.counts.all);
    if calls == daily - daily / 5 {
        warn!(key = %key.name, calls, daily, "four fifths of --daily-quota are used");
    }
}

/// What a key's calls are counted under.
fn account_of(key: &Key) -> Account {
    Ledger::account(&[key.authorization.as_bytes()])
}

/// What the calls of a share are counted under.
fn asked(key: &Key, allotment: &Allotment) -> Asked {
    let authorization = key.authorization.as_bytes();
    let account = match &allotment.owner {
        Owner::Caller(name) => Ledger::account(&[authorization, b"caller", name.as_bytes()]),
        Owner::Others => Ledger::account(&[authorization, b"others"]),
    };
    Asked {
        account,
        daily: allotment.calls,
    }
}

impl Counted<'_> {
    /// The same, unless OnboardFlow refuses the key: then it is given back.
    pub(super) fn allowed(self) -> Result<Self, Error> {
        if self.quota.in_use.load(Ordering::Relaxed) {
            let refused = self.quota.refused.check(&account_of(self.key));
            refused.map_err(|left| Error::new(Refusal::QuotaSpent).retry_after(left))?;
        }
        Ok(self)
    }

    /// Notes what OnboardFlow answered. Only the success of a call that was sent after a 429 says that
    /// the quota was renewed: the others were under way already, or failed for another reason.
    pub(super) fn answered(&self, status: StatusCode, retry_after: Option<Duration>) {
        let quota = self.quota;
        match (status, retry_after) {
            (StatusCode::TOO_MANY_REQUESTS, Some(delay)) if quota.heed_retry_after => {
                quota.in_use.store(true, Ordering::Relaxed);
                quota.refused.note(self.key, delay);
            }
            _ if status.is_success() && quota.in_use.load(Ordering::Relaxed) => {
                quota.refused.succeeded(self.key, self.since);
            }
            _ => {}
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // After an attempt that left, a second one stays counted that did not.
        if let (Some(taken), Sent::No) = (&self.taken, self.progress.sent()) {
            self.quota.counter.give_back(**taken);
        }
    }
}

#[cfg(test)]
mod tests;
