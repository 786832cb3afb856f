//! The calls of today, as all gateways count them that share a ledger.
//!
//! The ledger counts each call in a transaction, so the count is exact. While it can't be reached,
//! this instance goes on from what it last knew, and tells it of those calls once it is back.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{
    Account, Counter, Ledger, Refused, Spent, Take, Taken,
    alone::{Alone, accounts},
};
use crate::ledger::Failure;

/// The wait between looks at what others learnt.
const LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Together {
    ledger: Ledger,
    /// What was known last.
    alone: Alone,
    /// Whether the ledger could not be reached. Calls don't wait for it then.
    away: AtomicBool,
    /// Calls of each account and day that the ledger has yet to be told of.
    owed: Mutex<HashMap<(Account, i64), u64>>,
}

impl Together {
    pub(super) fn new(ledger: Ledger, alone: Alone) -> Self {
        Self {
            ledger,
            alone,
            away: AtomicBool::new(false),
            owed: Mutex::default(),
        }
    }

    /// Tells the ledger of calls that were counted alone, and learns what others counted.
    async fn look(&self, refused: &Refused) -> Result<(), Failure> {
        let owed: Vec<_> = self
            .owed()
            .iter()
            .map(|(of, calls)| (*of, *calls))
            .collect();
        for ((account, day), calls) in owed {
            self.ledger.add(account, day, calls).await?;
            self.settle(&account, day, calls);
        }
        let known = self.ledger.known().await?;
        for (account, day, calls) in known.calls {
            self.note(account, day, calls);
        }
        refused.learn(&known.refused);
        Ok(())
    }

    fn note(&self, account: Account, day: i64, calls: u64) {
        let owed = self.owed().get(&(account, day)).copied();
        self.alone
            .set(account, day, calls + owed.unwrap_or_default());
    }

    /// So many calls are owed no more. False if there were none.
    fn settle(&self, account: &Account, day: i64, calls: u64) -> bool {
        let mut owed = self.owed();
        let Some(left) = owed.get_mut(&(*account, day)) else {
            return false;
        };
        *left = left.saturating_sub(calls);
        if *left == 0 {
            owed.remove(&(*account, day));
        }
        true
    }

    fn owed(&self) -> MutexGuard<'_, HashMap<(Account, i64), u64>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_alone(&self, take: Take) -> Result<Option<Taken>, Spent> {
        let taken = self.alone.count(take)?;
        if let Some(taken) = &taken {
            let mut owed = self.owed();
            for account in accounts(&take) {
                *owed.entry((account, taken.day)).or_default() += 1;
            }
        }
        Ok(taken)
    }
}

impl Counter for Together {
    fn take(&self, take: Take) -> BoxFuture<'_, Result<Option<Taken>, Spent>> {
        Box::pin(async move {
            if self.away.load(Ordering::Relaxed) {
                return self.count_alone(take);
            }
            match self.ledger.take(take).await {
                Ok(taken) => {
                    let taken = taken?;
                    self.learn(&taken);
                    Ok(Some(taken))
                }
                Err(error) => {
                    if !self.away.swap(true, Ordering::Relaxed) {
                        warn!(%error, "the ledger can't be reached: this instance counts its calls by itself");
                    }
                    self.count_alone(take)
                }
            }
        })
    }

    fn give_back(&self, taken: Taken) {
        self.alone.uncount(&taken);
        let mut is_owed = false;
        for account in accounts(&taken.take) {
            is_owed |= self.settle(&account, taken.day, 1);
        }
        if !is_owed {
            self.ledger.give_back(taken);
        }
    }

    fn learn(&self, taken: &Taken) {
        let Taken { take, day, counts } = taken;
        self.note(take.all.account, *day, counts.all);
        if let Some(own) = take.own {
            self.note(own.account, *day, counts.own);
        }
    }

    fn calls(&self, account: &Account) -> u64 {
        self.alone.calls_of(account)
    }
}

/// Follows what others learn, as long as there is somebody to tell.
pub(super) async fn follow(together: Weak<Together>, refused: Arc<Refused>) {
    loop {
        let Some(together) = together.upgrade() else {
            return;
        };
        let is_away = together.look(&refused).await.is_err();
        if together.away.swap(is_away, Ordering::Relaxed) && !is_away {
            info!("the ledger is back: calls are counted together again");
        }
        drop(together);
        sleep(LOOK_EVERY).await;
    }
}
