//! The daily quota: calls that OnboardFlow would refuse are not made, as each of them costs.
//!
//! Two things are known of a key. OnboardFlow's own word: after a 429 with `Retry-After` the key is
//! spent until then, and one call now and then finds out whether it still is. And with
//! `--daily-quota` this instance's count of the calls that it made with the key since midnight UTC.

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

use super::{credentials::Key, observer::Observer};

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
    now: fn() -> SystemTime,
    /// Whether there is anything to look up.
    in_use: AtomicBool,
    keys: Mutex<HashMap<u64, Account>>,
}

#[derive(Debug, Default)]
struct Account {
    day: u64,
    calls: u64,
    warned: bool,
    spent: Option<Spent>,
}

#[derive(Clone, Copy, Debug)]
struct Spent {
    until: Instant,
    probe_at: Instant,
}

impl Quota {
    pub(super) fn new(daily: Option<u64>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "quotas are per day of the calendar"
        )]
        let now = SystemTime::now;
        Self {
            daily,
            now,
            in_use: AtomicBool::new(daily.is_some()),
            keys: Mutex::default(),
        }
    }

    /// Leave to make a call with this key, which is counted; or the time after which to ask again.
    pub(super) fn admit(&self, key: &Key, observer: &dyn Observer) -> Result<(), Duration> {
        if !self.in_use.load(Ordering::Relaxed) {
            return Ok(());
        }
        let today = self.seconds() / DAY;
        let mut keys = self.keys();
        make_room(&mut keys, today);
        if keys.len() >= MAX_KEYS && !keys.contains_key(&key.id) {
            return Ok(());
        }
        let account = keys.entry(key.id).or_default();
        account.begin(today);
        account.check_spent()?;
        if let Some(daily) = self.daily {
            if account.calls >= daily {
                return Err(Duration::from_secs(DAY - self.seconds() % DAY));
            }
            account.calls += 1;
            account.warn(daily, &key.name);
            observer.quota_left(&key.name, daily - account.calls);
        }
        Ok(())
    }

    /// Takes back a call that never left.
    pub(super) fn refund(&self, key: &Key, observer: &dyn Observer) {
        let Some(daily) = self.daily else { return };
        if let Some(account) = self.keys().get_mut(&key.id) {
            account.calls = account.calls.saturating_sub(1);
            observer.quota_left(&key.name, daily.saturating_sub(account.calls));
        }
    }

    /// Notes what OnboardFlow answered to a call with this key.
    pub(super) fn answered(&self, key: &Key, status: StatusCode, retry_after: Option<Duration>) {
        match (status, retry_after) {
            (StatusCode::TOO_MANY_REQUESTS, Some(delay)) => self.spent(key, delay),
            (StatusCode::TOO_MANY_REQUESTS, None) => {}
            _ if self.in_use.load(Ordering::Relaxed) => self.renewed(key),
            _ => {}
        }
    }

    fn spent(&self, key: &Key, delay: Duration) {
        let now = Instant::now();
        let today = self.seconds() / DAY;
        let mut keys = self.keys();
        make_room(&mut keys, today);
        if keys.len() >= MAX_KEYS && !keys.contains_key(&key.id) {
            return;
        }
        let account = keys.entry(key.id).or_default();
        account.begin(today);
        let until = now + delay.min(LONGEST);
        if account.spent.is_none() {
            warn!(key = %key.name, seconds = delay.as_secs(), "OnboardFlow says that the quota is spent");
        }
        account.spent = Some(Spent {
            until,
            probe_at: now + PROBE_EVERY,
        });
        self.in_use.store(true, Ordering::Relaxed);
    }

    fn renewed(&self, key: &Key) {
        let mut keys = self.keys();
        if let Some(account) = keys.get_mut(&key.id)
            && account.spent.take().is_some()
        {
            info!(key = %key.name, "OnboardFlow takes calls again");
        }
    }

    fn seconds(&self) -> u64 {
        let since = (self.now)().duration_since(UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<u64, Account>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what is over, once there is much.
fn make_room(keys: &mut HashMap<u64, Account>, today: u64) {
    if keys.len() >= MAX_KEYS {
        let now = Instant::now();
        let is_spent = |account: &Account| account.spent.is_some_and(|spent| now < spent.until);
        keys.retain(|_, account| account.day == today && account.calls > 0 || is_spent(account));
    }
}

impl Account {
    fn begin(&mut self, today: u64) {
        if self.day != today {
            self.day = today;
            self.calls = 0;
            self.warned = false;
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
mod tests {
    use http::HeaderValue;
    use tokio::time::advance;

    use super::*;
    use crate::{rest::KeyHolder, upstream::observer::Unobserved};

    fn key(id: u64) -> Key {
        Key {
            authorization: HeaderValue::from_static("Token x"),
            holder: KeyHolder::Gateway,
            id,
            name: "default".into(),
        }
    }

    fn admit(quota: &Quota, id: u64) -> Result<(), u64> {
        let admitted = quota.admit(&key(id), &Unobserved);
        admitted.map_err(|delay| delay.as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_key_rests_but_for_probes() {
        let quota = Quota::new(None);
        let hour = Some(Duration::from_secs(3600));
        quota.answered(&key(1), StatusCode::TOO_MANY_REQUESTS, hour);
        assert_eq!(admit(&quota, 1), Err(3600));
        assert_eq!(admit(&quota, 2), Ok(()), "another key");

        advance(PROBE_EVERY).await;
        assert_eq!(admit(&quota, 1), Ok(()), "a probe");
        assert_eq!(admit(&quota, 1), Err(2700));

        quota.answered(&key(1), StatusCode::OK, None);
        assert_eq!(admit(&quota, 1), Ok(()));

        quota.answered(&key(1), StatusCode::TOO_MANY_REQUESTS, Some(LONGEST * 365));
        assert_eq!(admit(&quota, 1), Err(LONGEST.as_secs()), "capped");
        advance(LONGEST).await;
        assert_eq!(admit(&quota, 1), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_day_has_so_many_calls() {
        let noon = || UNIX_EPOCH + Duration::from_secs(20_000 * DAY + DAY / 2);
        let quota = Quota {
            now: noon,
            ..Quota::new(Some(3))
        };
        assert_eq!([1, 1, 1].map(|id| admit(&quota, id)), [Ok(()); 3]);
        assert_eq!(admit(&quota, 1), Err(DAY / 2), "until midnight UTC");
        assert_eq!(admit(&quota, 2), Ok(()), "another key");
        quota.refund(&key(1), &Unobserved);
        assert_eq!(admit(&quota, 1), Ok(()));

        let quota = Quota {
            now: || UNIX_EPOCH + Duration::from_secs(20_001 * DAY),
            ..quota
        };
        assert_eq!(admit(&quota, 1), Ok(()), "the next day");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_bounded() {
        let quota = Quota::new(Some(1));
        for id in 0..20_000 {
            admit(&quota, id).unwrap();
        }
        assert_eq!(quota.keys().len(), MAX_KEYS);
    }
}
