//! The daily quota: calls that OnboardFlow would refuse are not made, as each of them costs.
//!
//! Two things are known of a key. OnboardFlow's own word: after a 429 with `Retry-After` the key is
//! spent until then, and one call now and then finds out whether it still is. And with
//! `--daily-quota` the count of the calls that were made with the key since midnight UTC: by this
//! instance, or by all that share a ledger ([`shared`]).

mod shared;
mod shown;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::StatusCode;
use tokio::time::Instant;
use tracing::{info, warn};

use self::shared::Shares;
pub(super) use self::shown::Left;
use super::{Shared, credentials::Key};
use crate::{
    callers::{Allotment, Caller, Counts, Owner, Spent as NoMore},
    context::Progress,
    error::{Error, Refusal, Sent},
    ledger::{Account as Hash, Take},
};

/// The longest that OnboardFlow is taken at its word: quotas are per day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How often a call is let through meanwhile: a plan may have been changed.
const PROBE_EVERY: Duration = Duration::from_secs(15 * 60);
/// Keys that are remembered. Callers bring theirs, and may bring any.
const MAX_KEYS: usize = 10_000;

const DAY: u64 = 24 * 3600;

/// Shared by all workers.
#[derive(Debug)]
pub(super) struct Quota {
    daily: Option<u64>,
    heed_retry_after: bool,
    now: fn() -> SystemTime,
    /// What is known together with others.
    shares: Option<Shares>,
    /// Whether there is anything to look up.
    in_use: AtomicBool,
    keys: Mutex<HashMap<u64, Account>>,
}

#[derive(Debug, Default)]
struct Account {
    day: u64,
    calls: u64,
    /// Of these, each owner's, where callers have shares.
    owners: HashMap<Owner, u64>,
    warned: bool,
    spent: Option<Spent>,
    /// What the ledger calls it.
    hash: Option<Hash>,
    /// Calls that the ledger has yet to be told of.
    owed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Spent {
    /// When OnboardFlow said so.
    since: Instant,
    until: Instant,
    probe_at: Instant,
    /// Whether the ledger has it, so that it ends when it is gone from there.
    shared: bool,
}

/// A call that was counted, on this day. Dropped while nothing of it left, it counts no more.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    quota: &'a Quota,
    key: &'a Key,
    day: Option<u64>,
    owner: Option<Owner>,
    /// When it was let through.
    since: Instant,
    progress: &'a Progress,
    /// What the ledger counted, if it did.
    taken: Option<Take>,
}

impl Quota {
    pub(super) fn new(daily: Option<u64>, heed_retry_after: bool) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "quotas are per day of the calendar"
        )]
        let now = SystemTime::now;
        Self {
            daily,
            heed_retry_after,
            now,
            shares: None,
            in_use: AtomicBool::new(daily.is_some()),
            keys: Mutex::default(),
        }
    }

    /// Leave for a caller to make a call with this key, which is counted; or why not, and until when.
    pub(super) async fn admit<'a>(
        &'a self,
        key: &'a Key,
        caller: Option<&Caller>,
        progress: &'a Progress,
    ) -> Result<Counted<'a>, Error> {
        match self.ask_ledger(key) {
            Some(take) => self.admit_together(key, caller, progress, take).await,
            None => self.admit_alone(key, caller, progress),
        }
    }

    /// The same, as this instance knows it.
    fn admit_alone<'a>(
        &'a self,
        key: &'a Key,
        caller: Option<&Caller>,
        progress: &'a Progress,
    ) -> Result<Counted<'a>, Error> {
        let counted = |day, owner| Counted {
            quota: self,
            key,
            day,
            owner,
            since: Instant::now(),
            progress,
            taken: None,
        };
        if !self.in_use.load(Ordering::Relaxed) {
            return Ok(counted(None, None));
        }
        let now = self.seconds();
        let mut keys = self.keys();
        let Some(account) = self.account(&mut keys, key, now / DAY) else {
            return Ok(counted(None, None));
        };
        let spent = |delay| Error::new(Refusal::QuotaSpent).retry_after(delay);
        account.check_spent().map_err(spent)?;
        let Some(daily) = self.daily else {
            return Ok(counted(None, None));
        };
        let allotment = caller.and_then(|caller| caller.allotment(daily));
        account
            .check_left(daily, allotment.as_ref())
            .map_err(|no_more| self.no_more(no_more))?;
        let owner = allotment.map(|allotment| allotment.owner);
        account.count(owner.clone());
        account.owed += u64::from(self.shares.is_some());
        account.warn(daily, &key.name);
        Ok(counted(Some(account.day), owner))
    }

    fn no_more(&self, no_more: NoMore) -> Error {
        let refusal = match no_more {
            NoMore::Day => Refusal::QuotaSpent,
            NoMore::Share => Refusal::CallerQuotaSpent,
        };
        Error::new(refusal).retry_after(self.until_midnight())
    }

    fn spent(&self, key: &Key, delay: Duration) {
        let now = Instant::now();
        let mut keys = self.keys();
        let Some(account) = self.account(&mut keys, key, self.seconds() / DAY) else {
            return;
        };
        let until = now + delay.min(LONGEST);
        if account.spent.is_none() {
            warn!(key = %key.name, seconds = delay.as_secs(), "OnboardFlow says that the quota is spent");
        }
        account.spent = Some(Spent {
            since: now,
            until,
            probe_at: now + PROBE_EVERY,
            shared: false,
        });
        let hash = account.hash;
        drop(keys);
        self.in_use.store(true, Ordering::Relaxed);
        self.tell_spent(hash, Some(delay.min(LONGEST)));
    }

    /// A call that was let through at this time succeeded.
    fn succeeded(&self, key: &Key, since: Instant) {
        let mut keys = self.keys();
        if let Some(account) = keys.get_mut(&key.id)
            && account.spent.take_if(|spent| since > spent.since).is_some()
        {
            info!(key = %key.name, "OnboardFlow takes calls again");
            let hash = account.hash;
            drop(keys);
            self.tell_spent(hash, None);
        }
    }

    /// A key's account, unless there are too many of other keys.
    fn account<'a>(
        &self,
        keys: &'a mut HashMap<u64, Account>,
        key: &Key,
        today: u64,
    ) -> Option<&'a mut Account> {
        if keys.len() >= MAX_KEYS && !keys.contains_key(&key.id) {
            let now = Instant::now();
            let is_spent = |account: &Account| account.spent.is_some_and(|spent| now < spent.until);
            keys.retain(|_, account| {
                account.day == today && account.calls > 0 || is_spent(account)
            });
            if keys.len() >= MAX_KEYS {
                return None;
            }
        }
        let account = keys.entry(key.id).or_default();
        account.begin(today);
        if let Some(shares) = &self.shares {
            shares.introduce(account, key);
        }
        Some(account)
    }

    fn seconds(&self) -> u64 {
        let since = (self.now)().duration_since(UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<u64, Account>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted<'_> {
    /// Notes what OnboardFlow answered. Only the success of a call that was sent after a 429 says that
    /// the quota was renewed: the others were under way already, or failed for another reason.
    pub(super) fn answered(&self, status: StatusCode, retry_after: Option<Duration>) {
        let quota = self.quota;
        match (status, retry_after) {
            (StatusCode::TOO_MANY_REQUESTS, Some(delay)) if quota.heed_retry_after => {
                quota.spent(self.key, delay);
            }
            _ if status.is_success() && quota.in_use.load(Ordering::Relaxed) => {
                quota.succeeded(self.key, self.since);
            }
            _ => {}
        }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        // After an attempt that left, a second one stays counted that did not.
        let (Some(day), Sent::No) = (self.day, self.progress.sent()) else {
            return;
        };
        if let Some(account) = self.quota.keys().get_mut(&self.key.id)
            && account.day == day
        {
            account.uncount(self.owner.as_ref());
            if self.taken.is_none() {
                account.owed = account.owed.saturating_sub(1);
            }
        }
        if let Some(take) = self.taken {
            self.quota.give_back(take);
        }
    }
}

impl Account {
    fn begin(&mut self, today: u64) {
        if self.day != today {
            self.day = today;
            self.calls = 0;
            self.owners.clear();
            self.owed = 0;
            self.warned = false;
        }
    }

    /// Whether the day, and the caller's part of it, have room for one more.
    fn check_left(&self, daily: u64, allotment: Option<&Allotment>) -> Result<(), NoMore> {
        match allotment {
            None if self.calls >= daily => Err(NoMore::Day),
            None => Ok(()),
            Some(allotment) => {
                let counts = Counts {
                    all: self.calls,
                    own: self.used_by(&allotment.owner),
                };
                allotment.admits(daily, counts)
            }
        }
    }

    fn used_by(&self, owner: &Owner) -> u64 {
        self.owners.get(owner).copied().unwrap_or_default()
    }

    fn count(&mut self, owner: Option<Owner>) {
        self.calls += 1;
        if let Some(owner) = owner {
            *self.owners.entry(owner).or_default() += 1;
        }
    }

    fn uncount(&mut self, owner: Option<&Owner>) {
        self.calls = self.calls.saturating_sub(1);
        if let Some(calls) = owner.and_then(|owner| self.owners.get_mut(owner)) {
            *calls = calls.saturating_sub(1);
        }
    }

    fn check_spent(&mut self) -> Result<(), Duration> {
        let Some(spent) = &mut self.spent else {
            return Ok(());
        };
        let now = Instant::now();
        if now >= spent.until {
            self.spent = None;
        } else if now < spent.probe_at {
            return Err(spent.until - now);
        } else {
            spent.probe_at = now + PROBE_EVERY;
        }
        Ok(())
    }

    fn warn(&mut self, daily: u64, key: &Arc<str>) {
        if !self.warned && self.calls >= daily - daily / 5 {
            self.warned = true;
            warn!(%key, calls = self.calls, daily, "four fifths of --daily-quota are used");
        }
    }
}

#[cfg(test)]
mod tests;
