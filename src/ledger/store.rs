//! The rows, in SQLite or PostgreSQL: one schema, the same statements.
//!
//! Nothing here reads a clock: whoever asks says what time it is, in milliseconds since 1970.

use std::{fmt, str::FromStr as _, time::Duration};

use secrecy::ExposeSecret as _;
use sqlx::{
    AnyConnection, AnyPool, ConnectOptions as _, Error, Row as _, SqlSafeStr as _, Transaction,
    any::{Any, AnyConnectOptions, AnyPoolOptions},
    migrate::{Migration, MigrationType, Migrator},
    query,
};
use tokio::{sync::OnceCell, time::sleep};

use super::{
    State,
    days::{Take, take_call},
    seal::HASH,
};
use crate::config::Location;

/// Connections to a PostgreSQL server. A transaction takes about a millisecond.
const CONNECTIONS: usize = 8;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Times that a transaction is tried whose row changed meanwhile.
const TRIES: u32 = 5;
/// The wait before the tables are looked at again.
const PAUSE: Duration = Duration::from_millis(50);

const SCHEMA: &str = include_str!("migrations/0001_ledger.sql");

/// The transaction's first word. SQLite's lets one write at a time, so that none has to give up halfway.
const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";
const BEGIN_POSTGRES: &str = "BEGIN";

/// What each connection to SQLite begins with: a commit is on the disk when it returns.
const SQLITE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
/// The same for PostgreSQL. A gateway that dies in the middle holds no lock for long.
const POSTGRES: &str = "SET synchronous_commit = on; SET statement_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '5s';";

const INSERT: &str = "INSERT INTO writes \
     (id, request, token, state, began, until, id_begins, site, method) \
     VALUES ($1, $2, $3, 0, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING";
const SELECT: &str =
    "SELECT request, token, state, response, began, until FROM writes WHERE id = $1";
const TAKE_OVER: &str = "UPDATE writes SET token = $1, state = 0, response = NULL, began = $2, \
     until = $3 WHERE id = $4 AND token = $5";
const END: &str = "UPDATE writes SET state = $1, response = $2 \
     WHERE id = $3 AND token = $4 AND state = 0";
const FREE: &str = "DELETE FROM writes WHERE id = $1 AND token = $2 AND state = 0";

/// A write that asks for a row.
pub(super) struct New {
    pub(super) id: [u8; HASH],
    pub(super) request: [u8; HASH],
    pub(super) token: i64,
    pub(super) began: i64,
    pub(super) until: i64,
    pub(super) id_begins: String,
    pub(super) site: String,
    pub(super) method: String,
    pub(super) may_repeat: bool,
}

/// What came of asking for a row.
pub(super) enum Reserved {
    /// The row is the write's, and the day's calls are so many.
    Yes { calls: Option<i64> },
    /// The day has no call left.
    QuotaSpent,
    /// Another one has the row.
    No(Row),
}

/// A row that is there.
pub(super) struct Row {
    pub(super) request: Vec<u8>,
    token: i64,
    state: i64,
    pub(super) response: Option<Vec<u8>>,
    pub(super) began: i64,
    until: i64,
}

/// How a reservation ends.
#[derive(Debug)]
pub(super) enum End {
    /// It was applied, with this response if it could be read.
    Applied(Option<Vec<u8>>),
    /// Nobody knows.
    Unknown,
    /// Nothing was applied: the id is free again.
    Free,
}

/// A store that may not be there yet.
pub(super) struct Store {
    pub(super) pool: AnyPool,
    begin: &'static str,
    ready: OnceCell<()>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Row {
    /// What is known at this time.
    pub(super) fn state(&self, now: i64) -> State {
        State::of(self.state, self.until, now)
    }
}

impl Store {
    /// Opens no connection yet.
    pub(super) fn new(location: &Location) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let options = AnyConnectOptions::from_str(&url(location))?;
        let options = options.disable_statement_logging();
        let (begin, setup) = match location {
            Location::Sqlite(_) => (BEGIN_SQLITE, SQLITE),
            Location::Postgres(_) => (BEGIN_POSTGRES, POSTGRES),
        };
        let connections = u32::try_from(Self::connections(location)).unwrap_or(1);
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move { sqlx::raw_sql(setup).execute(connection).await.map(drop) })
            })
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            begin,
            ready: OnceCell::new(),
        })
    }

    /// What works at the same time.
    pub(super) fn connections(location: &Location) -> usize {
        match location {
            // One writes at a time anyway, and so doesn't wait in SQLite, which polls.
            Location::Sqlite(_) => 1,
            Location::Postgres(_) => CONNECTIONS,
        }
    }

    /// Makes the tables, once.
    pub(super) async fn ready(&self) -> Result<(), Error> {
        let make = || async {
            let mut tries = TRIES;
            // SQLite locks no migration: another process may have made the tables meanwhile.
            loop {
                tries -= 1;
                match migrate(&self.pool).await {
                    Err(_) if tries > 0 && self.begin == BEGIN_SQLITE => sleep(PAUSE).await,
                    made => return made,
                }
            }
        };
        self.ready.get_or_try_init(make).await.map(|&()| ())
    }

    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    pub(super) async fn begin(&self) -> Result<Transaction<'static, Any>, Error> {
        self.ready().await?;
        self.pool.begin_with(self.begin).await
    }

    /// Gives a write its row, and a call of the day with it; or says who has the row. All or nothing.
    pub(super) async fn reserve(&self, new: &New, take: Option<Take>) -> Result<Reserved, Error> {
        for _ in 0..TRIES {
            let mut tx = self.begin().await?;
            if !insert(&mut tx, new).await? {
                let Some(row) = select(&mut tx, &new.id).await? else {
                    tx.rollback().await?;
                    continue;
                };
                if !row.may_be_taken_over(new) {
                    tx.rollback().await?;
                    return Ok(Reserved::No(row));
                }
                if !take_over(&mut tx, new, row.token).await? {
                    tx.rollback().await?;
                    continue;
                }
            }
            let calls = match take {
                None => None,
                Some(take) => match take_call(&mut tx, take).await? {
                    None => {
                        tx.rollback().await?;
                        return Ok(Reserved::QuotaSpent);
                    }
                    counted => counted,
                },
            };
            tx.commit().await?;
            return Ok(Reserved::Yes { calls });
        }
        Err(Error::Protocol("the row keeps changing".to_owned()))
    }

    /// Writes how a reservation ended, unless that was written, or another one has the row.
    pub(super) async fn end(&self, id: &[u8; HASH], token: i64, end: &End) -> Result<(), Error> {
        let (state, response) = match end {
            End::Applied(response) => (State::Applied, response.clone()),
            End::Unknown => (State::Unknown, None),
            End::Free => {
                let free = query(FREE).bind(id.to_vec()).bind(token);
                return free.execute(&self.pool).await.map(drop);
            }
        };
        let end = query(END).bind(state.number()).bind(response);
        let end = end.bind(id.to_vec()).bind(token);
        end.execute(&self.pool).await.map(drop)
    }
}

impl Row {
    /// Only where nobody knows what became of it, and once more does no harm.
    fn may_be_taken_over(&self, new: &New) -> bool {
        let is_unknown = self.state(new.began) == State::Unknown;
        is_unknown && new.may_repeat && self.request == new.request
    }
}

/// As sqlx takes it.
fn url(location: &Location) -> String {
    match location {
        Location::Sqlite(file) => {
            let mut file = file.to_string_lossy().into_owned();
            for (sign, code) in [("%", "%25"), ("?", "%3F"), ("#", "%23")] {
                file = file.replace(sign, code);
            }
            format!("sqlite://{file}?mode=rwc")
        }
        Location::Postgres(url) => url.expose_secret().to_owned(),
    }
}

async fn migrate(pool: &AnyPool) -> Result<(), Error> {
    let sql = SCHEMA.into_sql_str();
    let ledger = Migration::new(1, "ledger".into(), MigrationType::Simple, sql, false);
    let mut migrations = Migrator::with_migrations(vec![ledger]);
    // An older gateway goes on with the tables of a newer one: those only grow.
    migrations.set_ignore_missing(true);
    migrations.run(pool).await.map_err(Error::from)
}

async fn insert(connection: &mut AnyConnection, new: &New) -> Result<bool, Error> {
    let insert = query(INSERT)
        .bind(new.id.to_vec())
        .bind(new.request.to_vec())
        .bind(new.token)
        .bind(new.began)
        .bind(new.until)
        .bind(&*new.id_begins)
        .bind(&*new.site)
        .bind(&*new.method);
    Ok(insert.execute(connection).await?.rows_affected() == 1)
}

async fn select(connection: &mut AnyConnection, id: &[u8; HASH]) -> Result<Option<Row>, Error> {
    let select = query(SELECT).bind(id.to_vec());
    let Some(row) = select.fetch_optional(connection).await? else {
        return Ok(None);
    };
    Ok(Some(Row {
        request: row.try_get("request")?,
        token: row.try_get("token")?,
        state: row.try_get("state")?,
        response: row.try_get("response")?,
        began: row.try_get("began")?,
        until: row.try_get("until")?,
    }))
}

async fn take_over(connection: &mut AnyConnection, new: &New, from: i64) -> Result<bool, Error> {
    let take = query(TAKE_OVER).bind(new.token).bind(new.began);
    let take = take.bind(new.until).bind(new.id.to_vec()).bind(from);
    Ok(take.execute(connection).await?.rows_affected() == 1)
}
