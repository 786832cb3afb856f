//! Where the ledger stands in the path of a call: around its attempts. A write that names itself is reserved
//! before the first of them, and its outcome is noted after the last one. Doesn't know how the ledger keeps
//! its word.

use std::time::{Duration, SystemTime};

use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Shared, Upstream,
    credentials::{Key, site_name},
    memory::Name,
    repeats::Fate,
};
use crate::{
    context::{Arrival, Context, NamedBy},
    error::{Answer, Earlier, Error, Refusal, Violation, Write},
    ledger::{self, Again, Begun, Ledger, Reservation},
    rest::Call,
    translate::Operation,
};

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<T> {
    /// What the caller gets.
    pub message: T,
    /// Whose answer it is.
    pub origin: Origin,
}

/// Whose answer a caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its own call's.
    ThisCall,
    /// That of an earlier call with the same name.
    EarlierCall,
}

impl<T> Outcome<T> {
    fn fresh(message: T) -> Self {
        Self {
            message,
            origin: Origin::ThisCall,
        }
    }
}

/// What is known of a write that names itself.
enum Known<T> {
    /// Nothing, so it is sent under this reservation.
    Nothing(Box<Reservation>),
    /// Its answer.
    Answer(Outcome<T>),
}

impl Upstream {
    /// Sends a call, unless the ledger knows what became of it.
    pub(super) async fn once<Op: Operation>(
        &self,
        call: &Call,
        key: &Key,
        context: &Context,
    ) -> Result<Outcome<Op::Response>, Error> {
        let is_named = context.named_by == NamedBy::Caller;
        // Most calls go the last way. The others are boxed, as every call's future has room for the largest way.
        match &call.request_id {
            Some(id) => Box::pin(self.reserved::<Op>(id, call, key, context)).await,
            None if is_named && !Op::INTENT.effect.may_repeat() => {
                Box::pin(self.recently::<Op>(call, key, context)).await
            }
            None => {
                let sent = self.send::<Op>(call, key, context, None).await;
                sent.map(Outcome::fresh)
            }
        }
    }

    /// Sends a call under a reservation of its name.
    async fn reserved<Op: Operation>(
        &self,
        id: &str,
        call: &Call,
        key: &Key,
        context: &Context,
    ) -> Result<Outcome<Op::Response>, Error> {
        let Some(ledger) = &self.ledger else {
            return Err(Error::new(Refusal::LedgerOff));
        };
        let again = if Op::INTENT.effect.may_repeat() {
            Again::IfUnknown
        } else {
            Again::Never
        };
        let begun = self.ask(ledger, (id, id.as_bytes()), again, call, key, context);
        let begun = begun.await.map_err(unavailable)?;
        let reservation = match self.known::<Op>(begun)? {
            Known::Nothing(reservation) => reservation,
            Known::Answer(outcome) => return Ok(outcome),
        };
        let quota = &self.shared.quota;
        let counted = quota.counted(key, &context.progress, reservation.taken());
        let ended = self.send::<Op>(call, key, context, Some(counted)).await;
        // What can't be noted in time is noted without its caller.
        let _ = timeout_at(give_up(context), note(*reservation, &ended)).await;
        ended.map(Outcome::fresh)
    }

    /// Sends a create without a name, unless it says that it is a repeat, and its first attempt is
    /// known: to the ledger, or to this process.
    async fn recently<Op: Operation>(
        &self,
        call: &Call,
        key: &Key,
        context: &Context,
    ) -> Result<Outcome<Op::Response>, Error> {
        let Shared { repeats, quota, .. } = &*self.shared;
        let reservation = match self.ask_for_repeat(call, key, context).await {
            None => None,
            Some(begun) => match self.known::<Op>(begun)? {
                Known::Nothing(reservation) => Some(reservation),
                Known::Answer(outcome) => return Ok(outcome),
            },
        };
        let counted = reservation
            .as_ref()
            .map(|reservation| quota.counted(key, &context.progress, reservation.taken()));
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
        let ended = self.send::<Op>(call, key, context, counted).await;
        match became(&ended) {
            Write::Applied => under_way.applied(ended.as_ref().ok().map(Message::encode_to_vec)),
            Write::Unknown => under_way.unknown(),
            Write::NotSent | Write::Rejected => under_way.free(),
        }
        if let Some(reservation) = reservation {
            let _ = timeout_at(give_up(context), note(*reservation, &ended)).await;
        }
        ended.map(Outcome::fresh)
    }

    /// What the ledger knows of a create under its `x-request-id`. Nothing where it can't be reached:
    /// nothing was promised. And nothing where the id isn't a UUID: whoever can guess it could test
    /// guesses at the rest of the call on the ledger's rows.
    async fn ask_for_repeat(&self, call: &Call, key: &Key, context: &Context) -> Option<Begun> {
        let ledger = self.ledger.as_ref().filter(|ledger| !ledger.seems_gone())?;
        let id = context.request_id();
        uuid::Uuid::try_parse(id).ok()?;
        let again = match context.arrival {
            // Whoever doesn't say that it repeats means another write.
            Arrival::First => Again::Always,
            Arrival::Repeat => Again::Never,
        };
        // With another request it names another write, too.
        let body = call.body.as_deref().unwrap_or_default();
        let path = call.path.as_str().as_bytes();
        let name = [b"x-request-id ", id.as_bytes(), b" ", path, b" ", body].concat();
        let begun = self.ask(ledger, (id, &name), again, call, key, context);
        begun.await.ok()
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

    /// Reserves a name (as people know it, and whole), or says what is known of it.
    async fn ask(
        &self,
        ledger: &Ledger,
        (id, name): (&str, &[u8]),
        again: Again,
        call: &Call,
        key: &Key,
        context: &Context,
    ) -> Result<Begun, ledger::Failure> {
        let write = ledger::Write {
            request_id: name,
            id,
            site_key: &call.site_key,
            site: &site_name(&call.site_key),
            method: &format!("{} {}", call.method, call.template),
            call: [
                call.method.as_str().as_bytes(),
                call.path.as_str().as_bytes(),
                call.body.as_deref().unwrap_or_default(),
            ],
            again,
        };
        let take = self.shared.quota.take_for(key, context.caller.as_deref());
        let times = (give_up(context), context.deadline);
        ledger.begin(&write, take, &context.progress, times).await
    }

    /// What the ledger knows of a call by its name, unless that is a failure.
    fn known<Op: Operation>(&self, begun: Begun) -> Result<Known<Op::Response>, Error> {
        match begun {
            Begun::Reserved(reservation) => Ok(Known::Nothing(reservation)),
            Begun::Applied(response) => replayed::<Op>(response.as_deref()).map(Known::Answer),
            Begun::Unknown(since) => Err(unknown(since)),
            Begun::Settled => Err(Error::new(Earlier::Settled)),
            Begun::UnderWay => Err(Error::new(Earlier::InProgress)),
            Begun::Reused => Err(Error {
                violations: vec![Violation::new("request_id", "names another write already")],
                ..Error::new(Refusal::RequestIdReused)
            }),
            Begun::QuotaSpent(spent) => Err(self.shared.quota.no_more(spent)),
        }
    }
}

fn unavailable(cause: ledger::Failure) -> Error {
    Error::new(Refusal::LedgerUnavailable).because(cause)
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
        origin: Origin::EarlierCall,
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
