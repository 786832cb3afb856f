//! Where the ledger stands in the path of a call: around its attempts. A write that names itself is
//! reserved before the first of them, and its outcome is noted after the last one.

use std::time::Duration;

use prost::Message as _;
use tokio::time::{Instant, timeout_at};

use super::{
    Upstream,
    credentials::{Key, site_name},
};
use crate::{
    context::Context,
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
            Begun::Applied(Some(response)) => match Op::Response::decode(&*response) {
                Ok(message) => Ok(Err(Outcome {
                    message,
                    replayed: true,
                })),
                Err(_) => Err(Error::new(Answer::Unreadable { applied: true })),
            },
            Begun::Applied(None) => Err(Error::new(Answer::Unreadable { applied: true })),
            Begun::Unknown(since) => Err(Error {
                first_attempt: Some(since),
                ..Error::new(Earlier::Unknown)
            }),
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
async fn note<T: prost::Message>(reservation: Reservation, ended: &Result<T, Error>) {
    match ended {
        Ok(message) => reservation.applied(Some(message.encode_to_vec())).await,
        Err(error) => match error.write() {
            Write::Applied => reservation.applied(None).await,
            Write::Unknown => reservation.unknown().await,
            Write::NotSent | Write::Rejected => reservation.free().await,
        },
    }
}

/// When to stop waiting for others, so that the caller still reads the answer before its deadline.
fn give_up(context: &Context) -> Instant {
    const LONGEST: Duration = Duration::from_millis(500);
    let left = context.deadline.saturating_duration_since(Instant::now());
    context.deadline - (left / 5).min(LONGEST)
}
