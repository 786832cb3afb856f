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
    #[must_use]
    pub fn account(parts: &[&[u8]]) -> Account {
        seal::hashed(parts)
    }

    /// Counts a call, if there is one left.
    pub async fn take(&self, take: Take) -> Result<Result<Taken, Spent>, Failure> {
        let shared = Arc::clone(&self.0);
        self.run(async move { shared.store.take(take).await }).await
    }

    /// Adds calls that were made while the ledger could not be reached.
    pub async fn add(&self, account: Account, day: i64, calls: u64) -> Result<(), Failure> {
        let shared = Arc::clone(&self.0);
        self.run(async move { shared.store.add(&account, day, calls).await })
            .await
    }

    /// Gives a call back that never left. Nobody waits for it.
    pub fn give_back(&self, taken: Taken) {
        let shared = Arc::clone(&self.0);
        self.note(async move { shared.store.give_back(&taken).await });
    }

    /// Notes that OnboardFlow refuses an API key for so long, or takes calls with it again. Nobody
    /// waits for it.
    pub fn note_refused(&self, account: Account, delay: Option<Duration>) {
        let shared = Arc::clone(&self.0);
        self.note(async move {
            match delay {
                Some(delay) => shared.store.refused(&account, delay).await,
                None => shared.store.taken_again(&account).await,
            }
        });
    }

    fn note(&self, work: impl Future<Output = Result<(), Error>> + Send + 'static) {
        let shared = &self.0;
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
        let shared = Arc::clone(&self.0);
        self.run(async move { shared.store.known().await }).await
    }
}

impl Store {
    async fn take(&self, take: Take) -> Result<Result<Taken, Spent>, Error> {
        if take.own.is_none() {
            // One statement is a transaction: others wait for its row the less.
            self.ready().await?;
            return take_call(&mut *self.pool.acquire().await?, take).await;
        }
        let mut tx = self.begin().await?;
        let taken = take_call(&mut tx, take).await?;
        match taken {
            Ok(_) => tx.commit().await?,
            Err(_) => tx.rollback().await?,
        }
        Ok(taken)
    }

    async fn add(&self, account: &Account, day: i64, calls: u64) -> Result<(), Error> {
        self.ready().await?;
        let add = query(ADD_CALLS).bind(account.to_vec()).bind(day);
        let add = add.bind(number(calls));
        add.execute(&self.pool).await.map(drop)
    }

    async fn give_back(&self, taken: &Taken) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        give_back(&mut tx, &taken.take, taken.day).await?;
        tx.commit().await
    }

    async fn refused(&self, account: &Account, delay: Duration) -> Result<(), Error> {
        self.ready().await?;
        let refused = query(REFUSED).bind(account.to_vec()).bind(millis(delay));
        refused.execute(&self.pool).await.map(drop)
    }

    async fn taken_again(&self, account: &Account) -> Result<(), Error> {
        self.ready().await?;
        let taken_again = query(TAKEN_AGAIN).bind(account.to_vec());
        taken_again.execute(&self.pool).await.map(drop)
    }

    async fn known(&self) -> Result<Known, Error> {
        self.ready().await?;
        let refused = query(ALL_REFUSED).bind(MOST).fetch_all(&self.pool).await?;
        let refused = refused.iter().map(|row| {
            let remains: i64 = row.try_get("remains")?;
            Ok((account(row)?, Duration::from_millis(remains.unsigned_abs())))
        });
        let calls = query(ALL_CALLS).bind(MOST).fetch_all(&self.pool).await?;
        let calls = calls.iter().map(|row| {
            let calls: i64 = row.try_get("calls")?;
            Ok((account(row)?, row.try_get("day")?, calls.unsigned_abs()))
        });
        Ok(Known {
            refused: refused.collect::<Result<_, Error>>()?,
            calls: calls.collect::<Result<_, Error>>()?,
        })
    }
}

fn account(row: &AnyRow) -> Result<Account, Error> {
    let account: Vec<u8> = row.try_get("account")?;
    let account = account.try_into();
    account.map_err(|_| Error::Protocol("an account is not a hash".to_owned()))
}
