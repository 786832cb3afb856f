//! The ledger: a small durable record of writes that name themselves (`request_id`), and of the
//! calls of a day. Gateways that share one send such a write at most once while its outcome is
//! applied or unknown.
//!
//! It knows neither gRPC nor HTTP. Before the first byte of a write leaves, [`Ledger::begin`]
//! reserves its id in one transaction, or says what is known of it. A [`Reservation`] ends with a
//! second one. A gateway that dies between the two leaves a pending row behind, which reads as
//! unknown once its time is over. Nobody takes such a row over to send a create again, so a late
//! gateway needs no fence.
//!
//! Work on the store runs on the runtime that opened the ledger. A call that is dropped can't cut
//! it short.

mod care;
mod command;
mod days;
mod people;
mod reservation;
mod seal;
mod store;
mod take;

use std::{
    error::Error as StdError,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    runtime::Handle,
    sync::{self, Semaphore},
    time::{Instant, sleep, timeout},
};
use tokio_util::task::TaskTracker;

pub use self::{
    command::run,
    people::{Counts, Entry},
    reservation::Reservation,
    take::{Account, Asked, Take, Taken},
};
use self::{
    seal::Seal,
    store::{New, Reserved, Store},
};
use crate::{callers::Spent, config::Location, context::Progress, telemetry::LedgerMetrics};

/// Longest wait for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// What a pending write has beyond its deadline, to note its outcome.
const GRACE: Duration = Duration::from_secs(15);
/// Waits between looks at a write that is under way elsewhere: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Characters of a request id that people are shown.
const ID_BEGINS: usize = 8;
/// Milliseconds of a day.
const DAY: i64 = 24 * 3600 * 1000;

/// Why the ledger could not answer.
pub type Failure = Box<dyn StdError + Send + Sync>;

/// What is known of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is under way.
    Pending,
    /// It was applied.
    Applied,
    /// Nobody knows what became of it.
    Unknown,
    /// A person found out that it was applied.
    Settled,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Applied, Self::Unknown, Self::Settled];

    /// What people are shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applied => "applied",
            Self::Unknown => "unknown",
            Self::Settled => "settled",
        }
    }

    /// A number of a later version's reads as the most cautious one.
    fn of(number: i64) -> Self {
        match number {
            0 => Self::Pending,
            1 => Self::Applied,
            3 => Self::Settled,
            _ => Self::Unknown,
        }
    }
}

/// When a write may be sent although its name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Only where the earlier attempt came to nothing.
    Never,
    /// Where nobody knows what became of the same write: once more does no harm.
    IfUnknown,
    /// Whatever is known of the name: it is used anew.
    Always,
}

/// A write that names itself.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The caller's name for it.
    pub request_id: &'a [u8],
    /// The id that people know it by.
    pub id: &'a str,
    /// The site that it is for. Names are apart between sites.
    pub site_key: &'a str,
    /// What people are shown of the site.
    pub site: &'a str,
    /// What people are shown of the call.
    pub method: &'a str,
    /// All that makes it the same write.
    pub call: [&'a [u8]; 3],
    /// When it may be sent although its name is known.
    pub again: Again,
}

/// What the ledger says to a write that begins.
#[derive(Debug)]
pub enum Begun {
    /// It may be sent, and ends with this.
    Reserved(Box<Reservation>),
    /// It was applied. The response, where it could be read.
    Applied(Option<Vec<u8>>),
    /// Nobody knows what became of it since then.
    Unknown(SystemTime),
    /// A person found out that it was applied.
    Settled,
    /// It is under way, and did not end in time.
    UnderWay,
    /// Its id names another write.
    Reused,
    /// The day, or the caller's share of it, has no call left.
    QuotaSpent(Spent),
}

/// The record. Clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct Ledger(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    runtime: Handle,
    work: TaskTracker,
    metrics: LedgerMetrics,
    /// One for each connection.
    turns: Semaphore,
    /// When the store last failed.
    gone: Mutex<Option<Instant>>,
    /// When its rows were last counted for a reader of the metrics.
    counted: sync::Mutex<Option<Instant>>,
}

impl Ledger {
    /// The ledger at this place, kept on the runtime that this is called in. Opens nothing yet.
    pub fn new(location: &Location, metrics: LedgerMetrics) -> Result<Self, Failure> {
        let store = Store::new(location)?;
        let turns = Semaphore::new(store.connections());
        Ok(Self(Arc::new(Shared {
            store: Arc::new(store),
            runtime: Handle::current(),
            work: TaskTracker::new(),
            metrics,
            turns,
            gone: Mutex::default(),
            counted: sync::Mutex::default(),
        })))
    }

    /// Opens the store and makes its tables, if it is there.
    pub async fn open(&self) -> Result<(), Failure> {
        self.run(|store| async move { store.ready().await }).await
    }

    /// Reserves a write's id, and with it a call of the day; or says what is known of the id. Waits
    /// until `give_up` for a write that is under way.
    pub async fn begin(
        &self,
        write: &Write<'_>,
        take: Option<Take>,
        progress: &Progress,
        times: (Instant, Instant),
    ) -> Result<Begun, Failure> {
        let begun = self.find(write, take, progress, times).await;
        self.0.metrics.answered(match &begun {
            Ok(Begun::Reserved(_)) => "reserved",
            Ok(Begun::Applied(_)) => "replayed",
            Ok(Begun::Unknown(_)) => "unknown",
            Ok(Begun::Settled) => "settled",
            Ok(Begun::UnderWay) => "in_progress",
            Ok(Begun::Reused) => "reused",
            Ok(Begun::QuotaSpent(_)) => "quota_spent",
            Err(_) => "unreachable",
        });
        begun
    }

    async fn find(
        &self,
        write: &Write<'_>,
        take: Option<Take>,
        progress: &Progress,
        (give_up, deadline): (Instant, Instant),
    ) -> Result<Begun, Failure> {
        let seal = Arc::new(Seal::new(write)?);
        let (mut pause, longest) = LOOKS;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (reservation, reserved) = self.reserve(write, &seal, take, progress, left).await?;
            let row = match reserved {
                Reserved::Yes(_) => return Ok(Begun::Reserved(reservation)),
                Reserved::QuotaSpent(spent) => return Ok(Begun::QuotaSpent(spent)),
                Reserved::No(row) if row.request != seal.request => return Ok(Begun::Reused),
                Reserved::No(row) => row,
            };
            match row.state {
                State::Pending => {}
                State::Applied => {
                    let response = row.response.and_then(|sealed| seal.open(&sealed).ok());
                    return Ok(Begun::Applied(response));
                }
                State::Unknown => return Ok(Begun::Unknown(time(row.began))),
                State::Settled => return Ok(Begun::Settled),
            }
            if Instant::now() + pause >= give_up {
                return Ok(Begun::UnderWay);
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn reserve(
        &self,
        write: &Write<'_>,
        seal: &Arc<Seal>,
        take: Option<Take>,
        progress: &Progress,
        left: Duration,
    ) -> Result<(Box<Reservation>, Reserved), Failure> {
        let new = New {
            id: seal.id,
            request: seal.request,
            token: fastrand::i64(..),
            lasts: left + GRACE,
            id_begins: write.id.get(..ID_BEGINS).unwrap_or_default().to_owned(),
            whole_id: seal::hashed(&[write.id.as_bytes()]),
            site: write.site.to_owned(),
            method: write.method.to_owned(),
            again: write.again,
        };
        // Dropped with the row reserved, or maybe reserved, it frees the row again.
        let mut reservation = Box::new(Reservation {
            ledger: self.clone(),
            seal: Arc::clone(seal),
            token: new.token,
            asked: take,
            taken: None,
            progress: progress.clone(),
            open: true,
        });
        self.run(move |store| async move {
            let reserved = store.reserve(&new, take).await?;
            reservation.asked = None;
            match &reserved {
                Reserved::Yes(taken) => reservation.taken = *taken,
                Reserved::QuotaSpent(_) | Reserved::No(_) => reservation.open = false,
            }
            Ok((reservation, reserved))
        })
        .await
    }

    /// Works on the store to the end, whether or not somebody waits for it.
    async fn run<T, W>(&self, work: impl FnOnce(Arc<Store>) -> W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, sqlx::Error>> + Send + 'static,
    {
        let shared = Arc::clone(&self.0);
        let work = work(Arc::clone(&shared.store));
        let begun = Instant::now();
        let work = async move {
            // Waiting for others is no sign of a store that is gone, unless they found it gone.
            let _turn = shared.turns.acquire().await;
            if shared.gone_since(begun) {
                return Err(sqlx::Error::PoolTimedOut);
            }
            let done = timeout(STORE_TIMEOUT, work).await;
            let done = done.unwrap_or(Err(sqlx::Error::PoolTimedOut));
            if done.is_err() {
                *shared.gone() = Some(Instant::now());
            }
            done
        };
        let shared = &*self.0;
        let done = match shared.work.spawn_on(work, &shared.runtime).await {
            Ok(done) => done.map_err(Into::into),
            Err(stopped) => Err(stopped.into()),
        };
        shared.metrics.worked(begun.elapsed(), &done);
        done
    }

    /// Whether it could not be reached a moment ago: who can do without it need not wait for it.
    pub fn seems_gone(&self) -> bool {
        let a_moment_ago = Instant::now().checked_sub(STORE_TIMEOUT);
        a_moment_ago.is_some_and(|moment| self.0.gone_since(moment))
    }

    /// Ends with what is to be written written, or with a short wait.
    pub async fn close(&self) {
        self.0.work.close();
        let _ = timeout(STORE_TIMEOUT * 2, self.0.work.wait()).await;
        let _ = timeout(STORE_TIMEOUT, self.0.store.pool.close()).await;
    }
}

impl Shared {
    fn gone_since(&self, begun: Instant) -> bool {
        self.gone().is_some_and(|gone| gone >= begun)
    }

    fn gone(&self) -> MutexGuard<'_, Option<Instant>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis.try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests;
