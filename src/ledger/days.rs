//! The rows about API keys: the calls that were made with each on a day, and those that OnboardFlow
//! refuses for a while.

use std::{sync::Arc, time::Duration};

use sqlx::{Error, Row as _, any::AnyRow, query};
use tokio::time::timeout;
use tracing::warn;

use super::{
    Failure, Ledger, STORE_TIMEOUT, millis, seal,
    store::Store,
    take::{Account, Take, Taken, give_back, number, take_call},
};
use crate::callers::Spent;

/// Rows about calls, and about refusals, that gateways are told of at most.
const MOST: i64 = 20_000;

const ADD_CALLS: &str = "INSERT INTO days (account, day, calls) VALUES ($1, $2, $3) \
     ON CONFLICT (account, day) DO UPDATE SET calls = days.calls + $3";
const REFUSED: &str = "INSERT INTO spent (account, until) SELECT $1, now + $2 FROM clock WHERE true \
     ON CONFLICT (account) DO UPDATE SET until = excluded.until";
const TAKEN_AGAIN: &str = "DELETE FROM spent WHERE account = $1";
const ALL_REFUSED: &str =
    "SELECT account, until - now AS remains FROM spent, clock WHERE until > now LIMIT $1";
const ALL_CALLS: &str = "SELECT account, day, calls FROM days, clock WHERE day = now / 86400000 \
     ORDER BY calls DESC LIMIT $1";

/// What gateways know together of API keys.
#[derive(Debug, Default)]
pub struct Known {
    /// Those that OnboardFlow refuses, and for how long.
    pub refused: Vec<(Account, Duration)>,
    /// The calls of today.
    pub calls: Vec<(Account, i64, u64)>,
}

impl Ledger {
    /// The account of an API key, or of a share of its calls.
    pub fn account(parts: &[&[u8]]) -> Account {
        seal::hashed(parts)
    }

    /// Counts a call, if there is one left.
    pub async fn take(&self, take: Take) -> Result<Result<Taken, Spent>, Failure> {
        self.run(move |store| async move {
            if take.own.is_none() {
                // One statement is a transaction: others wait for its row the less.
                return take_call(&mut *store.pool().await?.acquire().await?, take).await;
            }
            let mut tx = store.begin().await?;
            let taken = take_call(&mut tx, take).await?;
            match taken {
                Ok(_) => tx.commit().await?,
                Err(_) => tx.rollback().await?,
            }
            Ok(taken)
        })
        .await
    }

    /// Adds calls that were made while the ledger could not be reached.
    pub async fn add(&self, account: Account, day: i64, calls: u64) -> Result<(), Failure> {
        self.run(move |store| async move {
            let add = query(ADD_CALLS).bind(account.to_vec()).bind(day);
            let add = add.bind(number(calls));
            add.execute(store.pool().await?).await.map(drop)
        })
        .await
    }

    /// Gives a call back that never left. Nobody waits for it.
    pub fn give_back(&self, taken: Taken) {
        self.note(move |store| async move {
            let mut tx = store.begin().await?;
            give_back(&mut tx, &taken.take, taken.day).await?;
            tx.commit().await
        });
    }

    /// Notes that OnboardFlow refuses an API key for so long, or takes calls with it again. Nobody
    /// waits for it.
    pub fn note_refused(&self, account: Account, delay: Option<Duration>) {
        let noted = match delay {
            Some(delay) => query(REFUSED).bind(account.to_vec()).bind(millis(delay)),
            None => query(TAKEN_AGAIN).bind(account.to_vec()),
        };
        self.note(move |store| async move {
            let pool = store.pool().await?;
            noted.execute(pool).await.map(drop)
        });
    }

    fn note<W>(&self, work: impl FnOnce(Arc<Store>) -> W)
    where
        W: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let shared = &self.0;
        let work = work(Arc::clone(&shared.store));
        let work = async move {
            let done = timeout(STORE_TIMEOUT, work).await;
            if let Err(error) = done.unwrap_or(Err(Error::PoolTimedOut)) {
                warn!(%error, "the ledger could not store what is known of the quota");
            }
        };
        drop(shared.work.spawn_on(work, &shared.runtime));
    }

    /// What is known of API keys.
    pub async fn known(&self) -> Result<Known, Failure> {
        self.run(|store| async move {
            let pool = store.pool().await?;
            let refused = query(ALL_REFUSED).bind(MOST).fetch_all(pool).await?;
            let refused = refused.iter().map(|row| {
                let remains: i64 = row.try_get("remains")?;
                Ok((account(row)?, Duration::from_millis(remains.unsigned_abs())))
            });
            let calls = query(ALL_CALLS).bind(MOST).fetch_all(pool).await?;
            let calls = calls.iter().map(|row| {
                let calls: i64 = row.try_get("calls")?;
                Ok((account(row)?, row.try_get("day")?, calls.unsigned_abs()))
            });
            Ok(Known {
                refused: refused.collect::<Result<_, Error>>()?,
                calls: calls.collect::<Result<_, Error>>()?,
            })
        })
        .await
    }
}

fn account(row: &AnyRow) -> Result<Account, Error> {
    let account: Vec<u8> = row.try_get("account")?;
    let account = account.try_into();
    account.map_err(|_| Error::Protocol("an account is not a hash".to_owned()))
}
