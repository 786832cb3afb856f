//! Where the ledger stands in the path of a call: around its attempts. A write that names itself is
//! reserved before the first of them, and its outcome is noted after the last one.

use std::time::{Duration, SystemTime};

use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Upstream,
    credentials::{Key, site_name},
    memory::Name,
    repeats::Fate,
};
use crate::{
    context::{Arrival, Context, NamedBy},
    error::{Answer, Earlier, Error, Refusal, Violation, Write},
    ledger::{self, Begun, Reservation},
    rest::Call,
    translate::Operation,
};

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<T> {
    /// What the caller gets.
    pub message: T,
    /// Whether it is the answer to an earlier call with the same name.
    pub replayed: bool,
}

impl<T> Outcome<T> {
    fn fresh(message: T) -> Self {
        Self {
            message,
            replayed: false,
        }
    }
}

impl Upstream {
    /// Sends a call, unless the ledger knows what became of it.
    pub(super) async fn once<Op: Operation>(
        &self,
        call: &Call,
        key: &Key,
        context: &Context,
    ) -> Result<Outcome<Op::Response>, Error> {
        let Some(id) = &call.request_id else {
            let is_named = context.named_by == NamedBy::Caller;
            if is_named && !Op::INTENT.effect.may_repeat() {
                return self.recently::<Op>(call, key, context).await;
            }
            let sent = self.send::<Op>(call, key, context, None).await;
            return sent.map(Outcome::fresh);
        };
        let reservation = match self.begin::<Op>(id, call, key, context).await? {
            Ok(reservation) => reservation,
            Err(replayed) => return Ok(replayed),
        };
        let counted = reservation.counted();
        let quota = &self.shared.quota;
        let counted = counted.map(|taken| quota.counted(key, &context.progress, taken));
        let ended = self.send::<Op>(call, key, context, counted).await;
        // What can't be noted in time is noted without its caller.
        let _ = timeout_at(give_up(context), note(reservation, &ended)).await;
        ended.map(Outcome::fresh)
    }

    /// Sends a create without a name, unless it says that it is a repeat, and its first attempt is
    /// remembered.
    async fn recently<Op: Operation>(
        &self,
        call: &Call,
        key: &Key,
        context: &Context,
    ) -> Result<Outcome<Op::Response>, Error> {
        let repeats = &self.shared.repeats;
        let name = repeats.name(call, context);
        if context.arrival == Arrival::Repeat
            && let Some(fate) = self.fate_of(name, context).await
        {
            return match fate {
                Fate::Applied(response) => replayed::<Op>(response.as_deref()),
                Fate::Unknown(since) => Err(unknown(since)),
                Fate::Pending => Err(Error::new(Earlier::InProgress)),
            };
        }
        let under_way = repeats.begin(name, &context.progress);
        let ended = self.send::<Op>(call, key, context, None).await;
        match became(&ended) {
            Write::Applied => under_way.applied(ended.as_ref().ok().map(Message::encode_to_vec)),
            Write::Unknown => under_way.unknown(),
            Write::NotSent | Write::Rejected => under_way.free(),
        }
        ended.map(Outcome::fresh)
    }

    /// What became of a create, if it is remembered; waits for one that is under way.
    async fn fate_of(&self, name: Name, context: &Context) -> Option<Fate> {
        let mut pause = Duration::from_millis(10);
        loop {
            let fate = self.shared.repeats.fate(name);
            if fate != Some(Fate::Pending) || Instant::now() + pause >= give_up(context) {
                return fate;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// Reserves the name, or has the answer to an earlier call with it.
    async fn begin<Op: Operation>(
        &self,
        id: &str,
        call: &Call,
        key: &Key,
        context: &Context,
    ) -> Result<Result<Reservation, Outcome<Op::Response>>, Error> {
        let Some(ledger) = &self.ledger else {
            return Err(Error::new(Refusal::LedgerOff));
        };
        let write = ledger::Write {
            request_id: id.as_bytes(),
            id_begins: id.get(..8).unwrap_or_default(),
            site_key: &call.site_key,
            site: &site_name(&call.site_key),
            method: &format!("{} {}", call.method, call.template),
            call: [
                call.method.as_str().as_bytes(),
                call.path.as_str().as_bytes(),
                call.body.as_deref().unwrap_or_default(),
            ],
            may_repeat: Op::INTENT.effect.may_repeat(),
        };
        let take = self.shared.quota.take_for(key);
        let times = (give_up(context), context.deadline);
        let begun = ledger.begin(&write, take, &context.progress, times).await;
        let begun = begun.map_err(|cause| Error::new(Refusal::LedgerUnavailable).because(cause))?;
        match begun {
            Begun::Reserved(reservation) => Ok(Ok(reservation)),
            Begun::Applied(response) => replayed::<Op>(response.as_deref()).map(Err),
            Begun::Unknown(since) => Err(unknown(since)),
            Begun::Settled => Err(Error::new(Earlier::Settled)),
            Begun::UnderWay => Err(Error::new(Earlier::InProgress)),
            Begun::Reused => Err(Error {
                violations: vec![Violation::new("request_id", "names another write already")],
                ..Error::new(Refusal::RequestIdReused)
            }),
            Begun::QuotaSpent => {
                let midnight = self.shared.quota.until_midnight();
                Err(Error::new(Refusal::QuotaSpent).retry_after(midnight))
            }
        }
    }
}

/// Notes what became of a write.
async fn note<T: Message>(reservation: Reservation, ended: &Result<T, Error>) {
    let response = ended.as_ref().ok().map(Message::encode_to_vec);
    match became(ended) {
        Write::Applied => reservation.applied(response).await,
        Write::Unknown => reservation.unknown().await,
        Write::NotSent | Write::Rejected => reservation.free().await,
    }
}

fn became<T>(ended: &Result<T, Error>) -> Write {
    ended.as_ref().map_or_else(Error::write, |_| Write::Applied)
}

/// The answer to an earlier call, as it was stored.
fn replayed<Op: Operation>(response: Option<&[u8]>) -> Result<Outcome<Op::Response>, Error> {
    let message = response.and_then(|response| Op::Response::decode(response).ok());
    let message = message.ok_or_else(|| Error::new(Answer::Unreadable { applied: true }))?;
    Ok(Outcome {
        message,
        replayed: true,
    })
}

fn unknown(since: SystemTime) -> Error {
    Error {
        first_attempt: Some(since),
        ..Error::new(Earlier::Unknown)
    }
}

/// When to stop waiting for others, so that the caller still reads the answer before its deadline.
fn give_up(context: &Context) -> Instant {
    const LONGEST: Duration = Duration::from_millis(500);
    let left = context.deadline.saturating_duration_since(Instant::now());
    context.deadline - (left / 5).min(LONGEST)
}
