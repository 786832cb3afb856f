//! The quota that gateways know together, through a ledger.
//!
//! The ledger counts each call in a transaction, so the count is exact. While it can't be reached,
//! this instance goes on from what it last knew, and tells it of those calls once it is back. What
//! OnboardFlow itself says (spent until then) is written down, and looked for every two seconds.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{
    Account, Caller, Counted, DAY, Error, Hash, Key, NoMore, Owner, PROBE_EVERY, Progress, Quota,
    Refusal, Shared, Spent, Take,
};
use crate::ledger::Ledger;

/// The wait before a ledger is asked again that could not be reached. Calls don't wait for it.
const AWAY: Duration = Duration::from_secs(1);
/// The wait between looks at what others learnt.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is known together with others.
#[derive(Debug)]
pub(super) struct Shares {
    ledger: Ledger,
    /// The accounts that OnboardFlow refuses, and until when, as the ledger had it last.
    spent: Mutex<HashMap<Hash, Instant>>,
    /// When to ask a ledger again that could not be reached.
    away: Mutex<Option<Instant>>,
}

impl Shares {
    /// Tells an account its hash, and what others learnt of it.
    pub(super) fn introduce(&self, account: &mut Account, key: &Key) {
        let hash = *account
            .hash
            .get_or_insert_with(|| Ledger::account(key.authorization.as_bytes()));
        let until = self.spent().get(&hash).copied();
        match (until, &mut account.spent) {
            (Some(_), Some(spent)) => spent.shared = true,
            (Some(until), none) => {
                let now = Instant::now();
                *none = Some(Spent {
                    since: now,
                    until,
                    probe_at: now + PROBE_EVERY,
                    shared: true,
                });
            }
            // Another instance found that it isn't any more.
            (None, spent) => *spent = spent.take().filter(|spent| !spent.shared),
        }
    }

    fn spent(&self) -> MutexGuard<'_, HashMap<Hash, Instant>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_away(&self) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.is_some_and(|until| Instant::now() < until)
    }

    fn set_away(&self, until: Option<Instant>) {
        *self.away.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    async fn look(&self) {
        let Ok(spent) = self.ledger.all_spent().await else {
            return;
        };
        let (now, today) = (Instant::now(), self.ledger.now());
        let until = |time: SystemTime| now + time.duration_since(today).unwrap_or_default();
        *self.spent() = spent
            .into_iter()
            .map(|(hash, time)| (hash, until(time)))
            .collect();
    }
}

impl Quota {
    /// The same, known together with all that share this ledger.
    pub(in super::super) fn together(mut self, ledger: Ledger) -> Self {
        *self.in_use.get_mut() = true;
        self.shares = Some(Shares {
            ledger,
            spent: Mutex::default(),
            away: Mutex::default(),
        });
        self
    }

    /// Follows what others learn, as long as there is somebody to tell.
    pub(in super::super) async fn follow(upstream: Weak<Shared>) {
        loop {
            {
                let Some(upstream) = upstream.upgrade() else {
                    return;
                };
                let Some(shares) = &upstream.quota.shares else {
                    return;
                };
                shares.look().await;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// What a reservation takes of the day with it.
    pub(in super::super) fn take_for(&self, key: &Key) -> Option<Take> {
        Some(Take {
            account: Ledger::account(key.authorization.as_bytes()),
            day: i64::try_from(self.seconds() / DAY).unwrap_or_default(),
            daily: i64::try_from(self.daily?).unwrap_or(i64::MAX),
            owed: 0,
        })
    }

    /// The call that a reservation took.
    pub(in super::super) fn counted<'a>(
        &'a self,
        key: &'a Key,
        progress: &'a Progress,
        (take, calls): (Take, i64),
    ) -> Counted<'a> {
        self.learn(key, calls);
        Counted {
            quota: self,
            key,
            day: Some(take.day.unsigned_abs()),
            owner: None,
            since: Instant::now(),
            progress,
            taken: Some(take),
        }
    }

    /// The time that is left of the day.
    pub(in super::super) fn until_midnight(&self) -> Duration {
        Duration::from_secs(DAY - self.seconds() % DAY)
    }

    /// The owner of the share that a call uses up, unless the share is used up, or OnboardFlow refuses
    /// the key. Each instance counts shares by itself; of the day, the ledger knows more.
    fn share_of(&self, key: &Key, caller: Option<&Caller>) -> Result<Option<Owner>, Error> {
        let mut keys = self.keys();
        let today = self.seconds() / DAY;
        let Some(account) = self.account(&mut keys, key, today) else {
            return Ok(None);
        };
        let spent = |delay| Error::new(Refusal::QuotaSpent).retry_after(delay);
        account.check_spent().map_err(spent)?;
        let daily = self.daily.unwrap_or(u64::MAX);
        let Some(allotment) = caller.and_then(|caller| caller.allotment(daily)) else {
            return Ok(None);
        };
        match account.check_left(daily, Some(&allotment)) {
            Err(NoMore::Share) => Err(self.no_more(NoMore::Share)),
            Err(NoMore::Day) | Ok(()) => {
                let used = account.owners.entry(allotment.owner.clone()).or_default();
                *used += 1;
                Ok(Some(allotment.owner))
            }
        }
    }

    /// What to ask the ledger for, if calls are counted there and it is there.
    pub(super) fn ask_ledger(&self, key: &Key) -> Option<Take> {
        let shares = self.shares.as_ref()?;
        self.take_for(key).filter(|_| !shares.is_away())
    }

    pub(super) async fn admit_together<'a>(
        &'a self,
        key: &'a Key,
        caller: Option<&Caller>,
        progress: &'a Progress,
        take: Take,
    ) -> Result<Counted<'a>, Error> {
        let Some(shares) = &self.shares else {
            return self.admit_alone(key, caller, progress);
        };
        let mut debt = Debt::of(self, key);
        let take = Take {
            owed: i64::try_from(debt.calls).unwrap_or(i64::MAX),
            ..take
        };
        match shares.ledger.take(take).await {
            Ok(taken) => {
                debt.calls = 0;
                shares.set_away(None);
                if let Some(calls) = taken {
                    return self.counted(key, progress, (take, calls)).allowed(caller);
                }
                self.learn(key, take.daily);
                Err(self.no_more(NoMore::Day))
            }
            Err(error) => {
                drop(debt);
                warn!(%error, "the ledger can't be reached: counting alone");
                shares.set_away(Some(Instant::now() + AWAY));
                self.admit_alone(key, caller, progress)
            }
        }
    }

    /// Notes how many calls the ledger counted.
    fn learn(&self, key: &Key, calls: i64) {
        let mut keys = self.keys();
        let today = self.seconds() / DAY;
        if let Some(account) = self.account(&mut keys, key, today) {
            account.calls = calls.unsigned_abs() + account.owed;
            if let Some(daily) = self.daily {
                account.warn(daily, &key.name);
            }
        }
    }

    pub(super) fn give_back(&self, take: Take) {
        if let Some(shares) = &self.shares {
            shares.ledger.give_back(take);
        }
    }

    /// Tells others that OnboardFlow refuses a key for so long, or no longer.
    pub(super) fn tell_spent(&self, hash: Option<Hash>, delay: Option<Duration>) {
        let (Some(shares), Some(hash)) = (&self.shares, hash) else {
            return;
        };
        match delay {
            Some(delay) => shares.spent().insert(hash, Instant::now() + delay),
            None => shares.spent().remove(&hash),
        };
        shares.ledger.note_spent(hash, delay);
    }
}

impl Counted<'_> {
    /// The same, unless its caller's share is used up, or OnboardFlow refuses the key: then it is
    /// given back.
    pub(in super::super) fn allowed(mut self, caller: Option<&Caller>) -> Result<Self, Error> {
        self.owner = self.quota.share_of(self.key, caller)?;
        Ok(self)
    }
}

/// Calls that the ledger is being told of. Dropped before it has them, they are owed still.
struct Debt<'a> {
    quota: &'a Quota,
    key: u64,
    day: u64,
    calls: u64,
}

impl<'a> Debt<'a> {
    fn of(quota: &'a Quota, key: &Key) -> Self {
        let mut keys = quota.keys();
        let account = keys.get_mut(&key.id);
        let (day, calls) = account.map_or((0, 0), |account| {
            (account.day, std::mem::take(&mut account.owed))
        });
        drop(keys);
        Self {
            quota,
            key: key.id,
            day,
            calls,
        }
    }
}

impl Drop for Debt<'_> {
    fn drop(&mut self) {
        if let Some(account) = self.quota.keys().get_mut(&self.key)
            && account.day == self.day
        {
            account.owed += self.calls;
        }
    }
}
