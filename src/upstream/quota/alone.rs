//! The calls of today, as this process counts them: for itself, or until its ledger is back. Knows no ledger
//! and no reply.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, ready},
};

use super::{Account, Asked, Counter, DAY, Spent, Take, Taken};
use crate::callers::Counts;

/// Accounts that are counted. Callers bring their keys, and may bring any.
const MOST: usize = 20_000;

/// The calls of one day.
#[derive(Debug)]
pub(super) struct Alone {
    now: fn() -> SystemTime,
    today: Mutex<Today>,
}

#[derive(Debug, Default)]
struct Today {
    day: i64,
    calls: HashMap<Account, u64>,
}

impl Alone {
    pub(super) fn new(now: fn() -> SystemTime) -> Self {
        Self {
            now,
            today: Mutex::default(),
        }
    }

    /// Sets the calls of a day, where that is today.
    pub(super) fn set(&self, account: Account, day: i64, calls: u64) {
        let mut today = self.today();
        if today.day == day && today.has_room_for(&[account]) {
            today.calls.insert(account, calls);
        }
    }

    /// Counts a call, if there is one left.
    pub(super) fn count(&self, take: Take) -> Result<Option<Taken>, Spent> {
        let mut today = self.today();
        let counts = today.counts(&take);
        if take.own.is_some_and(|own| counts.own >= own.daily) {
            return Err(Spent::Share);
        }
        if counts.all >= take.all.daily {
            return Err(Spent::Day);
        }
        let accounts: Vec<Account> = accounts(&take).collect();
        if !today.has_room_for(&accounts) {
            return Ok(None);
        }
        for account in accounts {
            *today.calls.entry(account).or_default() += 1;
        }
        Ok(Some(Taken {
            counts: today.counts(&take),
            day: today.day,
            take,
        }))
    }

    pub(super) fn uncount(&self, taken: &Taken) {
        let mut today = self.today();
        if today.day == taken.day {
            for account in accounts(&taken.take) {
                if let Some(calls) = today.calls.get_mut(&account) {
                    *calls = calls.saturating_sub(1);
                }
            }
        }
    }

    pub(super) fn calls_of(&self, account: &Account) -> u64 {
        self.today().calls.get(account).copied().unwrap_or_default()
    }

    fn today(&self) -> MutexGuard<'_, Today> {
        let since = (self.now)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let day = i64::try_from(since.as_secs() / DAY).unwrap_or_default();
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day != day {
            today.day = day;
            today.calls.clear();
        }
        today
    }
}

/// Those that a call is counted under.
pub(super) fn accounts(take: &Take) -> impl Iterator<Item = Account> {
    let own = take.own.map(|own| own.account);
    own.into_iter().chain([take.all.account])
}

impl Today {
    fn has_room_for(&self, accounts: &[Account]) -> bool {
        let is_there = |account| self.calls.contains_key(account);
        self.calls.len() + accounts.len() <= MOST || accounts.iter().all(is_there)
    }

    fn counts(&self, take: &Take) -> Counts {
        let of = |asked: Asked| self.calls.get(&asked.account).copied();
        Counts {
            all: of(take.all).unwrap_or_default(),
            own: take.own.and_then(of).unwrap_or_default(),
        }
    }
}

impl Counter for Alone {
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Option<Taken>, Spent>> {
        ready(self.count(take)).boxed()
    }

    fn give_back(&self, taken: Taken) {
        self.uncount(&taken);
    }

    /// There is no ledger.
    fn learn(&self, _: &Taken) {}

    fn calls(&self, account: &Account) -> u64 {
        self.calls_of(account)
    }
}
