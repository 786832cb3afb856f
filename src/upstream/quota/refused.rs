//! OnboardFlow's own word on a key: after a 429 with `Retry-After` its calls are refused until then, and one
//! call now and then finds out whether it still is so. With a ledger, others are told. Knows no caller, and
//! nothing of `--daily-quota`.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::{Account, Key, Ledger, account_of};

/// The longest that OnboardFlow is taken at its word: quotas are per day.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How often a call is let through meanwhile: a plan may have been changed.
const PROBE_EVERY: Duration = Duration::from_secs(15 * 60);
/// Keys that are remembered. Callers bring theirs, and may bring any.
const MOST: usize = 10_000;

#[derive(Debug)]
pub(super) struct Refused {
    keys: Mutex<HashMap<Account, Word>>,
    ledger: Option<Ledger>,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    /// When OnboardFlow said so.
    since: Instant,
    until: Instant,
    probe_at: Instant,
    /// Whether the ledger has it, so that it ends when it is gone from there.
    shared: bool,
}

impl Word {
    fn new(delay: Duration) -> Self {
        let now = Instant::now();
        Self {
            since: now,
            until: now + delay.min(LONGEST),
            probe_at: now + PROBE_EVERY,
            shared: false,
        }
    }
}

impl Refused {
    pub(super) fn new(ledger: Option<Ledger>) -> Self {
        Self {
            keys: Mutex::default(),
            ledger,
        }
    }

    /// Whether a call may be made; if not, for how long that will be so.
    pub(super) fn check(&self, account: &Account) -> Result<(), Duration> {
        let mut keys = self.keys();
        let Some(word) = keys.get_mut(account) else {
            return Ok(());
        };
        let now = Instant::now();
        if now >= word.until {
            keys.remove(account);
        } else if now < word.probe_at {
            return Err(word.until - now);
        } else {
            word.probe_at = now + PROBE_EVERY;
        }
        Ok(())
    }

    /// OnboardFlow refuses calls with this key for so long.
    pub(super) fn note(&self, key: &Key, delay: Duration) {
        let account = account_of(key);
        let mut keys = self.keys();
        keys.retain(|_, word| Instant::now() < word.until);
        if keys.len() >= MOST && !keys.contains_key(&account) {
            return;
        }
        if keys.insert(account, Word::new(delay)).is_none() {
            warn!(key = %key.name, seconds = delay.as_secs(), "OnboardFlow says that the quota is spent");
        }
        drop(keys);
        if let Some(ledger) = &self.ledger {
            ledger.note_refused(account, Some(delay.min(LONGEST)));
        }
    }

    /// A call that was let through at this time succeeded.
    pub(super) fn succeeded(&self, key: &Key, since: Instant) {
        let account = account_of(key);
        let mut keys = self.keys();
        if keys.get(&account).is_none_or(|word| since <= word.since) {
            return;
        }
        keys.remove(&account);
        drop(keys);
        info!(key = %key.name, "OnboardFlow takes calls again");
        if let Some(ledger) = &self.ledger {
            ledger.note_refused(account, None);
        }
    }

    /// Takes over what the ledger says: what another instance learnt, and what it found to be over.
    pub(super) fn learn(&self, refused: &[(Account, Duration)]) {
        let in_ledger: HashSet<&Account> = refused.iter().map(|(account, _)| account).collect();
        let mut keys = self.keys();
        keys.retain(|account, word| !word.shared || in_ledger.contains(account));
        for (account, left) in refused {
            if keys.len() < MOST || keys.contains_key(account) {
                keys.entry(*account)
                    .or_insert_with(|| Word::new(*left))
                    .shared = true;
            }
        }
    }

    /// How long calls with this key will be refused.
    pub(super) fn left(&self, account: &Account) -> Duration {
        let keys = self.keys();
        keys.get(account).map_or(Duration::ZERO, |word| {
            word.until.saturating_duration_since(Instant::now())
        })
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<Account, Word>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
