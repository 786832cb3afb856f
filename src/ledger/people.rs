//! The rows as people see them: lists, counts, what they settle, and what is forgotten.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use sqlx::{Error, Row as _, any::AnyRow, query};

use super::{DAY, Failure, Ledger, State, millis, store::Store, time};

/// Rows that a list has at most.
const LISTED: i64 = 10_000;
/// Days whose counts are kept.
const DAYS: i64 = 7;

/// Rows that one statement deletes: others wait for it.
const PRUNED_AT_ONCE: i64 = 1000;

const LIST: &str = "SELECT id, id_begins, site, method, began, \
     CASE WHEN state = 0 AND until < $1 THEN 2 ELSE state END AS now FROM writes \
     WHERE began >= $2 ORDER BY began, id LIMIT $3";
const LIST_UNKNOWN: &str = "SELECT id, id_begins, site, method, began, 2 AS now FROM writes \
     WHERE (state = 2 OR state = 0 AND until < $1) AND began >= $2 ORDER BY began, id LIMIT $3";
const SETTLE_APPLIED: &str = "UPDATE writes SET state = 3 WHERE id = $1 \
     AND (state = 2 OR state = 0 AND until < $2)";
const SETTLE_NOT_APPLIED: &str = "DELETE FROM writes WHERE id = $1 \
     AND (state = 2 OR state = 0 AND until < $2)";
const COUNT: &str = "SELECT CASE WHEN state = 0 AND until < $1 THEN 2 ELSE state END AS now, \
     COUNT(*) AS entries, MIN(began) AS oldest FROM writes GROUP BY 1";
const PRUNE: &str = "DELETE FROM writes WHERE id IN \
     (SELECT id FROM writes WHERE began < $1 AND (state <> 0 OR until < $2) LIMIT $3)";
const PRUNE_DAYS: &str = "DELETE FROM days WHERE day < $1";
const PRUNE_SPENT: &str = "DELETE FROM spent WHERE until < $1";

/// A row as people are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names the row for people: the first hexadecimal digits of its id.
    pub id: String,
    row_id: Vec<u8>,
    /// The first eight characters of the caller's request id.
    pub id_begins: String,
    /// The site's name in logs.
    pub site: String,
    /// What was called.
    pub method: String,
    /// What is known.
    pub state: State,
    /// When the attempt began, in milliseconds since 1970.
    pub began: i64,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows in each state, in the order of [`State::ALL`].
    pub entries: [i64; 4],
    /// When the oldest write of unknown fate began.
    pub oldest_unknown: Option<i64>,
}

impl Ledger {
    /// Rows, oldest first: all, or those of unknown fate.
    pub async fn list(&self, unknown: bool) -> Result<Vec<Entry>, Failure> {
        let shared = Arc::clone(&self.0);
        let now = shared.now();
        self.run(async move { shared.store.list(unknown, now, LISTED).await })
            .await
    }

    /// How many rows there are.
    pub async fn count(&self) -> Result<Counts, Failure> {
        let shared = Arc::clone(&self.0);
        let now = shared.now();
        self.run(async move { shared.store.count(now).await }).await
    }

    /// Notes what a person found out of a write of unknown fate. False if it isn't one any more.
    pub async fn settle(&self, entry: &Entry, applied: bool) -> Result<bool, Failure> {
        let shared = Arc::clone(&self.0);
        let now = shared.now();
        let id = entry.row_id.clone();
        self.run(async move { shared.store.settle(&id, applied, now).await })
            .await
    }

    /// Forgets writes that began longer ago than this. Says how many it were.
    pub async fn prune(&self, retention: Duration) -> Result<u64, Failure> {
        let shared = Arc::clone(&self.0);
        let now = shared.now();
        let before = now.saturating_sub(millis(retention));
        self.run(async move { shared.store.prune(before, now / DAY - DAYS, now).await })
            .await
    }
}

impl Entry {
    /// When its attempt began.
    #[must_use]
    pub fn began(&self) -> SystemTime {
        time(self.began)
    }
}

impl Store {
    /// Rows, oldest first.
    pub(super) async fn list(
        &self,
        unknown: bool,
        now: i64,
        most: i64,
    ) -> Result<Vec<Entry>, Error> {
        self.ready().await?;
        let statement = if unknown { LIST_UNKNOWN } else { LIST };
        let rows = query(statement).bind(now).bind(0_i64).bind(most);
        let rows = rows.fetch_all(&self.pool).await?;
        rows.iter().map(entry).collect()
    }

    /// Notes what a person found out of a write of unknown fate. False if it isn't one.
    pub(super) async fn settle(&self, id: &[u8], applied: bool, now: i64) -> Result<bool, Error> {
        self.ready().await?;
        let statement = if applied {
            SETTLE_APPLIED
        } else {
            SETTLE_NOT_APPLIED
        };
        let done = query(statement).bind(id.to_vec()).bind(now);
        Ok(done.execute(&self.pool).await?.rows_affected() == 1)
    }

    pub(super) async fn count(&self, now: i64) -> Result<Counts, Error> {
        self.ready().await?;
        let mut counts = Counts::default();
        for row in query(COUNT).bind(now).fetch_all(&self.pool).await? {
            let state = State::of(number(&row, "now")?, now, now);
            counts.entries[state as usize] = row.try_get("entries")?;
            if state == State::Unknown {
                counts.oldest_unknown = row.try_get("oldest")?;
            }
        }
        Ok(counts)
    }

    /// Deletes what began before `before`, and days before `day`. Says how many writes it were.
    pub(super) async fn prune(&self, before: i64, day: i64, now: i64) -> Result<u64, Error> {
        self.ready().await?;
        let mut pruned = 0;
        loop {
            let some = query(PRUNE).bind(before).bind(now).bind(PRUNED_AT_ONCE);
            let deleted = some.execute(&self.pool).await?.rows_affected();
            pruned += deleted;
            if deleted < PRUNED_AT_ONCE.unsigned_abs() {
                break;
            }
        }
        query(PRUNE_DAYS).bind(day).execute(&self.pool).await?;
        query(PRUNE_SPENT).bind(now).execute(&self.pool).await?;
        Ok(pruned)
    }
}

fn entry(row: &AnyRow) -> Result<Entry, Error> {
    let row_id: Vec<u8> = row.try_get("id")?;
    let Some(first) = row_id.first_chunk() else {
        return Err(Error::Protocol("an id is not a hash".to_owned()));
    };
    Ok(Entry {
        id: format!("{:016x}", u64::from_be_bytes(*first)),
        row_id,
        id_begins: row.try_get("id_begins")?,
        site: row.try_get("site")?,
        method: row.try_get("method")?,
        state: State::of(number(row, "now")?, i64::MAX, 0),
        began: row.try_get("began")?,
    })
}

/// A number that one store calls an integer and the other a big one.
fn number(row: &AnyRow, column: &str) -> Result<i64, Error> {
    row.try_get::<i64, _>(column)
        .or_else(|_| row.try_get::<i32, _>(column).map(i64::from))
}
