//! The rows as people see them: lists, counts, what they settle, and what is forgotten.

use std::time::{Duration, SystemTime};

use sqlx::{Error, Row as _, any::AnyRow, query};

use super::{Failure, ID_BEGINS, Ledger, State, millis, seal::hashed, time};

const LISTED: i64 = 10_000;
/// Days whose counts are kept.
const DAYS: i64 = 7;

/// Rows that one statement deletes: others wait for it.
const PRUNED_AT_ONCE: i64 = 1000;

/// What is known of a write, and what its row alone holds.
const LIST: &str = "SELECT id, known.id_begins, whole_id, known.site, known.method, known.began, fate \
     FROM known JOIN writes USING (id) ORDER BY known.began, id LIMIT $1";
const LIST_UNKNOWN: &str = "SELECT id, known.id_begins, whole_id, known.site, known.method, known.began, \
     fate FROM known JOIN writes USING (id) WHERE fate = 2 ORDER BY known.began, id LIMIT $1";
const SETTLE_APPLIED: &str = "UPDATE writes SET state = 3 \
     WHERE id IN (SELECT id FROM known WHERE id = $1 AND fate = 2)";
const SETTLE_NOT_APPLIED: &str = "DELETE FROM writes \
     WHERE id IN (SELECT id FROM known WHERE id = $1 AND fate = 2)";
const COUNT: &str = "SELECT fate, COUNT(*) AS entries, MAX(age) AS oldest FROM known GROUP BY fate";
const PRUNE: &str = "DELETE FROM writes WHERE id IN \
     (SELECT id FROM known WHERE age > $1 AND fate <> 0 LIMIT $2)";
const PRUNE_DAYS: &str = "DELETE FROM days WHERE day < (SELECT now / 86400000 FROM clock) - $1";
const PRUNE_SPENT: &str = "DELETE FROM spent WHERE until < (SELECT now FROM clock)";

/// A row as people are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Names the row for people: the first hexadecimal digits of its id.
    pub id: String,
    row_id: Vec<u8>,
    whole_id: Option<Vec<u8>>,
    /// The first eight characters of the caller's request id.
    pub id_begins: String,
    /// The site's name in logs.
    pub site: String,
    /// What was called.
    pub method: String,
    /// What is known.
    pub state: State,
    /// When the attempt began.
    pub began: SystemTime,
}

/// How many rows there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows in each state, in the order of [`State::ALL`].
    pub entries: [i64; 4],
    /// The age of the oldest write of unknown fate, in milliseconds.
    pub oldest_unknown: Option<i64>,
}

impl Ledger {
    /// Rows, oldest first: all, or those of unknown fate.
    pub async fn list(&self, unknown: bool) -> Result<Vec<Entry>, Failure> {
        self.run(move |store| async move {
            let rows = query(if unknown { LIST_UNKNOWN } else { LIST }).bind(LISTED);
            let rows = rows.fetch_all(store.pool().await?).await?;
            rows.iter().map(entry).collect()
        })
        .await
    }

    /// How many rows there are.
    pub async fn count(&self) -> Result<Counts, Failure> {
        self.run(|store| async move {
            let mut counts = Counts::default();
            for row in query(COUNT).fetch_all(store.pool().await?).await? {
                let state = State::of(row.try_get("fate")?);
                counts.entries[state as usize] = row.try_get("entries")?;
                if state == State::Unknown {
                    counts.oldest_unknown = row.try_get("oldest")?;
                }
            }
            Ok(counts)
        })
        .await
    }

    /// Notes what a person found out of a write of unknown fate. False if it isn't one any more.
    pub async fn settle(&self, entry: &Entry, applied: bool) -> Result<bool, Failure> {
        let statement = if applied {
            SETTLE_APPLIED
        } else {
            SETTLE_NOT_APPLIED
        };
        let settle = query(statement).bind(entry.row_id.clone());
        self.run(|store| async move {
            let done = settle.execute(store.pool().await?).await?;
            Ok(done.rows_affected() == 1)
        })
        .await
    }

    /// Forgets writes that began longer ago than this, and old days. Says how many writes it were.
    pub async fn prune(&self, retention: Duration) -> Result<u64, Failure> {
        self.run(move |store| async move {
            let pool = store.pool().await?;
            let mut pruned = 0;
            loop {
                let some = query(PRUNE).bind(millis(retention)).bind(PRUNED_AT_ONCE);
                let deleted = some.execute(pool).await?.rows_affected();
                pruned += deleted;
                if deleted < PRUNED_AT_ONCE.unsigned_abs() {
                    break;
                }
            }
            query(PRUNE_DAYS).bind(DAYS).execute(pool).await?;
            query(PRUNE_SPENT).execute(pool).await?;
            Ok(pruned)
        })
        .await
    }
}

impl Entry {
    /// Whether a person means it: by its ID, by the whole request id, or by the beginning of that.
    pub fn is_named(&self, id: &str) -> bool {
        let whole_id = hashed(&[id.as_bytes()]);
        id == self.id
            || self.whole_id.as_deref() == Some(&whole_id[..])
            || id.len() == ID_BEGINS && id == self.id_begins
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
        whole_id: row.try_get("whole_id")?,
        id_begins: row.try_get("id_begins")?,
        site: row.try_get("site")?,
        method: row.try_get("method")?,
        state: State::of(row.try_get("fate")?),
        began: time(row.try_get("began")?),
    })
}
