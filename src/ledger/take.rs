//! A call that is counted: one is taken of its accounts, or given back.

use sqlx::{AnyConnection, Error, Row as _, query};

use super::seal::HASH;
use crate::callers::{Counts, Spent};

const TAKE_CALL: &str = "INSERT INTO days (account, day, calls) \
     SELECT $1, now / 86400000, 1 FROM clock WHERE $2 > 0 \
     ON CONFLICT (account, day) DO UPDATE SET calls = days.calls + 1 WHERE days.calls < $2 \
     RETURNING day, calls";
const GIVE_BACK: &str =
    "UPDATE days SET calls = calls - 1 WHERE account = $1 AND day = $2 AND calls > 0";

/// What calls are counted under: an API key, or a share of its calls, by a hash.
pub type Account = [u8; HASH];

/// A call that asks to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Take {
    /// For its API key.
    pub all: Asked,
    /// For the share that its caller uses, where the day is divided.
    pub own: Option<Asked>,
}

/// A call that asks to be counted under one account.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Which.
    pub account: Account,
    /// The calls that it has a day.
    pub daily: u64,
}

/// A call that was counted.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// What for.
    pub take: Take,
    /// On which day, as days since 1970.
    pub day: i64,
    /// How many there are with it.
    pub counts: Counts,
}

/// Counts a call under its accounts, the caller's own first: it is what the caller can do something
/// about. Always in this order, so that no two transactions wait for each other. Nothing is kept of a
/// call that there is no more of, unless the transaction is committed.
pub(super) async fn take_call(
    connection: &mut AnyConnection,
    take: Take,
) -> Result<Result<Taken, Spent>, Error> {
    let own = match take.own {
        None => 0,
        Some(own) => match count(connection, own).await? {
            Some((_, own)) => own,
            None => return Ok(Err(Spent::Share)),
        },
    };
    let Some((day, all)) = count(connection, take.all).await? else {
        return Ok(Err(Spent::Day));
    };
    let counts = Counts { all, own };
    Ok(Ok(Taken { take, day, counts }))
}

/// The day, and its calls with this one.
async fn count(connection: &mut AnyConnection, asked: Asked) -> Result<Option<(i64, u64)>, Error> {
    let count = query(TAKE_CALL).bind(asked.account.to_vec());
    let count = count.bind(number(asked.daily));
    let Some(row) = count.fetch_optional(connection).await? else {
        return Ok(None);
    };
    let calls: i64 = row.try_get("calls")?;
    Ok(Some((row.try_get("day")?, calls.unsigned_abs())))
}

pub(super) async fn give_back(
    connection: &mut AnyConnection,
    take: &Take,
    day: i64,
) -> Result<(), Error> {
    for asked in take.own.iter().chain([&take.all]) {
        let give = query(GIVE_BACK).bind(asked.account.to_vec()).bind(day);
        give.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) fn number(calls: u64) -> i64 {
    i64::try_from(calls).unwrap_or(i64::MAX)
}
