//! The rows about API keys: the calls that each made on a day, and those that OnboardFlow refuses for
//! a while.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sqlx::{AnyConnection, Error, Row as _, any::AnyRow, query};
use tokio::time::timeout;
use tracing::warn;

use super::{
    DAY, Failure, Ledger, STORE_TIMEOUT, millis,
    seal::{self, HASH},
    store::Store,
    time,
};

const TAKE_CALL: &str = "INSERT INTO days (account, day, calls) VALUES ($1, $2, 1) \
     ON CONFLICT (account, day) DO UPDATE SET calls = days.calls + 1 WHERE days.calls < $3 \
     RETURNING calls";
const ADD_CALLS: &str = "INSERT INTO days (account, day, calls) VALUES ($1, $2, $3) \
     ON CONFLICT (account, day) DO UPDATE SET calls = days.calls + $3";
const GIVE_BACK: &str =
    "UPDATE days SET calls = calls - 1 WHERE account = $1 AND day = $2 AND calls > 0";
const SPENT: &str = "INSERT INTO spent (account, until) VALUES ($1, $2) \
     ON CONFLICT (account) DO UPDATE SET until = $2";
const RENEWED: &str = "DELETE FROM spent WHERE account = $1";
const ALL_SPENT: &str = "SELECT account, until FROM spent WHERE until > $1 LIMIT 10000";
const CALLS_OF: &str =
    "SELECT account, calls FROM days WHERE day = $1 ORDER BY calls DESC LIMIT 1000";

/// An API key, by its hash.
pub type Account = [u8; HASH];

/// A call that asks to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Take {
    /// The API key's hash.
    pub account: Account,
    /// Days since 1970.
    pub day: i64,
    /// The calls that the day has.
    pub daily: i64,
    /// Calls that were made while the ledger could not be reached.
    pub owed: i64,
}

impl Ledger {
    /// The account of an API key.
    #[must_use]
    pub fn account(api_key: &[u8]) -> Account {
        seal::account(api_key)
    }

    /// Counts a call, and says how many there are; or none is left.
    pub async fn take(&self, take: Take) -> Result<Option<i64>, Failure> {
        let shared = Arc::clone(&self.0);
        self.run(async move { shared.store.take(take).await }).await
    }

    /// Gives a call back that never left. Nobody waits for it.
    pub fn give_back(&self, take: Take) {
        let shared = Arc::clone(&self.0);
        self.note(async move { shared.store.give_back(&take.account, take.day).await });
    }

    /// Notes that OnboardFlow refuses an API key for so long, or takes calls with it again. Nobody
    /// waits for it.
    pub fn note_spent(&self, account: Account, delay: Option<Duration>) {
        let shared = Arc::clone(&self.0);
        let until = delay.map(|delay| shared.now().saturating_add(millis(delay)));
        self.note(async move {
            match until {
                Some(until) => shared.store.spent(&account, until).await,
                None => shared.store.renewed(&account).await,
            }
        });
    }

    fn note(&self, work: impl Future<Output = Result<(), sqlx::Error>> + Send + 'static) {
        let shared = &self.0;
        let work = async move {
            if let Err(error) = timeout(STORE_TIMEOUT, work)
                .await
                .unwrap_or(Err(Error::PoolTimedOut))
            {
                warn!(%error, "the ledger did not take a note about the quota");
            }
        };
        drop(shared.work.spawn_on(work, &shared.runtime));
    }

    /// The API keys that OnboardFlow refuses, and until when.
    pub async fn all_spent(&self) -> Result<Vec<(Account, SystemTime)>, Failure> {
        let shared = Arc::clone(&self.0);
        let now = shared.now();
        let spent = self
            .run(async move { shared.store.all_spent(now).await })
            .await?;
        Ok(spent
            .into_iter()
            .map(|(account, until)| (account, time(until)))
            .collect())
    }

    /// The calls that API keys made today, the most first.
    pub async fn calls_today(&self) -> Result<Vec<(Account, i64)>, Failure> {
        let shared = Arc::clone(&self.0);
        let today = shared.now() / DAY;
        self.run(async move { shared.store.calls_of(today).await })
            .await
    }
}

impl Store {
    /// Counts a call, and says how many there are; or none is left.
    pub(super) async fn take(&self, take: Take) -> Result<Option<i64>, Error> {
        let mut tx = self.begin().await?;
        let calls = take_call(&mut tx, take).await?;
        tx.commit().await?;
        Ok(calls)
    }

    pub(super) async fn give_back(&self, account: &Account, day: i64) -> Result<(), Error> {
        let give = query(GIVE_BACK).bind(account.to_vec()).bind(day);
        give.execute(&self.pool).await.map(drop)
    }

    /// Notes that OnboardFlow refuses an API key until then.
    pub(super) async fn spent(&self, account: &Account, until: i64) -> Result<(), Error> {
        self.ready().await?;
        let spent = query(SPENT).bind(account.to_vec()).bind(until);
        spent.execute(&self.pool).await.map(drop)
    }

    /// Notes that OnboardFlow takes calls with an API key again.
    pub(super) async fn renewed(&self, account: &Account) -> Result<(), Error> {
        self.ready().await?;
        let renewed = query(RENEWED).bind(account.to_vec());
        renewed.execute(&self.pool).await.map(drop)
    }

    /// The API keys that OnboardFlow refuses, and until when.
    pub(super) async fn all_spent(&self, now: i64) -> Result<Vec<(Account, i64)>, Error> {
        self.ready().await?;
        let rows = query(ALL_SPENT).bind(now).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| Ok((account(row)?, row.try_get("until")?)))
            .collect()
    }

    /// The calls that API keys made on a day, the most first.
    pub(super) async fn calls_of(&self, day: i64) -> Result<Vec<(Account, i64)>, Error> {
        self.ready().await?;
        let rows = query(CALLS_OF).bind(day).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| Ok((account(row)?, row.try_get("calls")?)))
            .collect()
    }
}

pub(super) async fn take_call(
    connection: &mut AnyConnection,
    take: Take,
) -> Result<Option<i64>, Error> {
    let Take {
        account,
        day,
        daily,
        owed,
    } = take;
    if owed > 0 {
        let add = query(ADD_CALLS).bind(account.to_vec()).bind(day).bind(owed);
        add.execute(&mut *connection).await?;
    }
    let take = query(TAKE_CALL)
        .bind(account.to_vec())
        .bind(day)
        .bind(daily);
    let row = take.fetch_optional(connection).await?;
    row.map(|row| row.try_get("calls")).transpose()
}

fn account(row: &AnyRow) -> Result<Account, Error> {
    let account: Vec<u8> = row.try_get("account")?;
    let account = account.try_into();
    account.map_err(|_| Error::Protocol("an account is not a hash".to_owned()))
}
