//! The rows, in SQLite or PostgreSQL: one schema, the same statements.
//!
//! The store's clock says what time it is, in milliseconds since 1970. The clocks of the gateways that
//! share it may differ.

use std::{fmt, str::FromStr as _, time::Duration};

use secrecy::ExposeSecret as _;
use sqlx::{
    AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Error, Row as _, SqlSafeStr as _,
    Transaction,
    any::{Any, AnyConnectOptions, AnyPoolOptions},
    migrate::{Migration, MigrationType, Migrator},
    query,
};
use tokio::{sync::OnceCell, time::sleep};

use super::{
    Again, State,
    seal::HASH,
    take::{Take, Taken, give_back, take_call},
};
use crate::{callers::Spent, config::Location};

/// Connections to a PostgreSQL server. A transaction takes about a millisecond.
const CONNECTIONS: usize = 8;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Times that a transaction is tried whose row changed meanwhile.
const TRIES: u32 = 5;
/// The wait before the tables are looked at again.
const PAUSE: Duration = Duration::from_millis(50);

const INSERT: &str = "INSERT INTO writes \
     (id, request, token, state, began, until, id_begins, whole_id, site, method) \
     SELECT $1, $2, $3, 0, now, now + $4, $5, $6, $7, $8 FROM clock WHERE true \
     ON CONFLICT (id) DO NOTHING";
const SELECT: &str = "SELECT request, token, fate, response, began FROM known WHERE id = $1";
const TAKE_OVER: &str = "UPDATE writes SET token = $1, state = 0, response = NULL, \
     began = (SELECT now FROM clock), until = (SELECT now FROM clock) + $2 \
     WHERE id = $3 AND token = $4";
const END: &str = "UPDATE writes SET state = $1, response = $2 \
     WHERE id = $3 AND token = $4 AND state = 0";
const FREE: &str = "DELETE FROM writes WHERE id = $1 AND token = $2 AND state = 0 RETURNING began";

/// What differs between the stores.
struct Dialect {
    /// A transaction's first word.
    begin: &'static str,
    /// What each connection begins with. A commit is on the disk when it returns.
    setup: &'static str,
    clock: &'static str,
    connections: usize,
}

/// One writes at a time, so that none has to give up halfway; others wait here and not in SQLite, which
/// polls.
const SQLITE: Dialect = Dialect {
    begin: "BEGIN IMMEDIATE",
    setup: "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;",
    clock: include_str!("migrations/0002_clock_sqlite.sql"),
    connections: 1,
};

/// A gateway that dies in the middle holds no lock for long.
const POSTGRES: Dialect = Dialect {
    begin: "BEGIN",
    setup: "SET synchronous_commit = on; SET statement_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '5s';",
    clock: include_str!("migrations/0002_clock_postgres.sql"),
    connections: CONNECTIONS,
};

/// A write that asks for a row.
pub(super) struct New {
    pub(super) id: [u8; HASH],
    pub(super) request: [u8; HASH],
    pub(super) token: i64,
    /// How long it may be pending.
    pub(super) lasts: Duration,
    pub(super) id_begins: String,
    pub(super) whole_id: [u8; HASH],
    pub(super) site: String,
    pub(super) method: String,
    pub(super) again: Again,
}

/// What came of asking for a row.
pub(super) enum Reserved {
    /// The row is the write's, and a call of the day, if it asked for one.
    Yes(Option<Taken>),
    /// The day has no call left.
    QuotaSpent(Spent),
    /// Another one has the row.
    No(Row),
}

pub(super) struct Row {
    pub(super) request: Vec<u8>,
    token: i64,
    pub(super) state: State,
    pub(super) response: Option<Vec<u8>>,
    pub(super) began: i64,
}

/// How a reservation ends.
#[derive(Debug)]
pub(super) enum End {
    /// It was applied, with this response if it could be read.
    Applied(Option<Vec<u8>>),
    /// Nobody knows.
    Unknown,
    /// Nothing was applied: the id is free again, and so is this call of the day, if they were reserved.
    Free(Option<Take>),
}

/// A store that may not be there yet.
pub(super) struct Store {
    pub(super) pool: AnyPool,
    dialect: &'static Dialect,
    ready: OnceCell<()>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens no connection yet.
    pub(super) fn new(location: &Location) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let options = AnyConnectOptions::from_str(&url(location))?;
        let options = options.disable_statement_logging();
        let dialect = match location {
            Location::Sqlite(_) => &SQLITE,
            Location::Postgres(_) => &POSTGRES,
        };
        let setup = dialect.setup;
        let pool = AnyPoolOptions::new()
            .max_connections(u32::try_from(dialect.connections).unwrap_or(1))
            .acquire_timeout(CONNECT_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move { sqlx::raw_sql(setup).execute(connection).await.map(drop) })
            })
            // A disk that is full ends SQLite's transaction by itself. sqlx goes on counting it, and would begin
            // no other one on that connection.
            .after_release(|connection, _| {
                let is_clean = !connection.is_in_transaction();
                Box::pin(async move { Ok(is_clean) })
            })
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            dialect,
            ready: OnceCell::new(),
        })
    }

    /// What works at the same time.
    pub(super) fn connections(&self) -> usize {
        self.dialect.connections
    }

    /// Makes the tables, once.
    pub(super) async fn ready(&self) -> Result<(), Error> {
        let make = || async {
            let mut tries = TRIES;
            // SQLite locks no migration: another process may have made the tables meanwhile.
            loop {
                tries -= 1;
                match self.migrate().await {
                    Err(_) if tries > 0 && self.dialect.connections == 1 => sleep(PAUSE).await,
                    made => return made,
                }
            }
        };
        self.ready.get_or_try_init(make).await.map(|&()| ())
    }

    /// The connections to tables that are there.
    pub(super) async fn pool(&self) -> Result<&AnyPool, Error> {
        self.ready().await?;
        Ok(&self.pool)
    }

    async fn migrate(&self) -> Result<(), Error> {
        let step = |version, name: &'static str, sql: &'static str| {
            let sql = sql.into_sql_str();
            Migration::new(version, name.into(), MigrationType::Simple, sql, false)
        };
        let mut migrations = Migrator::with_migrations(vec![
            step(1, "tables", include_str!("migrations/0001_tables.sql")),
            step(2, "clock", self.dialect.clock),
            step(3, "known", include_str!("migrations/0003_known.sql")),
            step(4, "whole id", include_str!("migrations/0004_whole_id.sql")),
        ]);
        // An older gateway goes on with the tables of a newer one: those only grow.
        migrations.set_ignore_missing(true);
        migrations.run(&self.pool).await.map_err(Error::from)
    }

    pub(super) async fn begin(&self) -> Result<Transaction<'static, Any>, Error> {
        self.pool().await?.begin_with(self.dialect.begin).await
    }

    /// Gives a write its row, and a call of the day with it; or says who has the row. All or nothing.
    pub(super) async fn reserve(&self, new: &New, take: Option<Take>) -> Result<Reserved, Error> {
        for _ in 0..TRIES {
            let mut tx = self.begin().await?;
            let reserved = try_reserve(&mut tx, new, take).await?;
            match reserved {
                Some(Reserved::Yes(_)) => tx.commit().await?,
                Some(Reserved::QuotaSpent(_) | Reserved::No(_)) | None => tx.rollback().await?,
            }
            if let Some(reserved) = reserved {
                return Ok(reserved);
            }
        }
        Err(Error::Protocol("the row keeps changing".to_owned()))
    }

    /// Writes how a reservation ended, unless that was written, or another one has the row.
    pub(super) async fn end(&self, id: &[u8; HASH], token: i64, end: &End) -> Result<(), Error> {
        let (state, response) = match end {
            End::Applied(response) => (State::Applied, response.clone()),
            End::Unknown => (State::Unknown, None),
            End::Free(take) => return self.free(id, token, *take).await,
        };
        let end = query(END).bind(state as i64).bind(response);
        let end = end.bind(id.to_vec()).bind(token);
        end.execute(&self.pool).await.map(drop)
    }

    async fn free(&self, id: &[u8; HASH], token: i64, take: Option<Take>) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        let free = query(FREE).bind(id.to_vec()).bind(token);
        let row = free.fetch_optional(&mut *tx).await?;
        if let (Some(row), Some(take)) = (row, take) {
            let began: i64 = row.try_get("began")?;
            give_back(&mut tx, &take, began / super::DAY).await?;
        }
        tx.commit().await
    }
}

impl Row {
    fn may_be_taken_over(&self, new: &New) -> bool {
        match new.again {
            Again::Never => false,
            Again::IfUnknown => self.state == State::Unknown && self.request == new.request,
            Again::Always => true,
        }
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

/// Nothing where the row changed meanwhile.
async fn try_reserve(
    connection: &mut AnyConnection,
    new: &New,
    take: Option<Take>,
) -> Result<Option<Reserved>, Error> {
    if !insert(connection, new).await? {
        let Some(row) = select(connection, &new.id).await? else {
            return Ok(None);
        };
        if !row.may_be_taken_over(new) {
            return Ok(Some(Reserved::No(row)));
        }
        if !take_over(connection, new, row.token).await? {
            return Ok(None);
        }
    }
    let Some(take) = take else {
        return Ok(Some(Reserved::Yes(None)));
    };
    Ok(Some(match take_call(connection, take).await? {
        Ok(taken) => Reserved::Yes(Some(taken)),
        Err(spent) => Reserved::QuotaSpent(spent),
    }))
}

async fn insert(connection: &mut AnyConnection, new: &New) -> Result<bool, Error> {
    let insert = query(INSERT)
        .bind(new.id.to_vec())
        .bind(new.request.to_vec())
        .bind(new.token)
        .bind(super::millis(new.lasts))
        .bind(&*new.id_begins)
        .bind(new.whole_id.to_vec())
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
        state: State::of(row.try_get("fate")?),
        response: row.try_get("response")?,
        began: row.try_get("began")?,
    }))
}

async fn take_over(connection: &mut AnyConnection, new: &New, from: i64) -> Result<bool, Error> {
    let take = query(TAKE_OVER).bind(new.token);
    let take = take.bind(super::millis(new.lasts));
    let take = take.bind(new.id.to_vec()).bind(from);
    Ok(take.execute(connection).await?.rows_affected() == 1)
}
