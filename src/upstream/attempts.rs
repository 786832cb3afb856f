//! The attempts at one call, each with leave of quota and breaker. Knows no resource and no socket: how far
//! an attempt came is in its failure.

use tokio::time::{Instant, sleep};

use super::{
    Upstream,
    breaker::{Cause, Health, Permit, Stopped},
    credentials::Key,
    failure::{Failure, Fault, Reached},
    http::Share,
    quota::Counted,
    repeats::Before,
    retry::{self, Decision, Funds, Means, Outcome, Reservation, Why},
};
use crate::{
    context::{Arrival, Context},
    error::{Error, Loss, Refusal, Sent},
    rest::{Call, Effect, Reply},
};

/// A call that was answered.
pub(super) struct Answered {
    pub(super) reply: Reply,
    /// Whether an attempt before this one may have been taken.
    pub(super) earlier: Sent,
}

/// The last attempt.
struct Last {
    ended: Result<Reply, Failure>,
    /// Whether one before it may have been taken.
    earlier: Sent,
}

/// Leave to make an attempt.
struct Leave<'a> {
    permit: Permit<'a>,
    counted: Counted<'a>,
}

impl Upstream {
    /// Tries until an outcome stands.
    pub(super) async fn attempt(
        &self,
        call: &Call,
        key: &Key,
        effect: Effect,
        context: &Context,
        mut counted: Option<Counted<'_>>,
        most: u32,
    ) -> Result<Answered, Error> {
        self.shared.budget.deposit();
        let mut made = 0;
        let mut before: Option<Last> = None;
        loop {
            let earlier = before.as_ref().map_or(Sent::No, |last| {
                fate_after(retry::outcome(&last.ended).0, last.earlier)
            });
            let may_repeat = effect.may_repeat() && made + 1 < most;
            let reserved = may_repeat.then(|| self.shared.budget.reserve()).flatten();
            // It leaves time for the next one, for which there is a retry then. A create that has
            // left is never sent again, so it gets all the time there is.
            let share = match reserved {
                Some(_) => Share::Half,
                None => Share::Whole,
            };
            let leave = match self.leave(call, key, context, counted.take()).await {
                Ok(leave) => leave,
                // What came before says more than that no further attempt was allowed.
                Err(refusal) => return before.map_or(Err(refusal), |last| last.conclude(effect)),
            };
            let ended = self.try_once(call, key, context, leave, share).await;
            made += 1;
            match self
                .again(&ended, effect, context, made, most, reserved)
                .await
            {
                Decision::Repeat(_) => before = Some(Last { ended, earlier }),
                Decision::Final(_) => return Last { ended, earlier }.conclude(effect),
            }
        }
    }

    /// How often a call is tried at most. Whoever repeats calls in front of the gateway multiplies its
    /// attempts, so a repeat is tried once, and not at all once there were as many as there may be: it
    /// gets the answer that the last attempt got.
    pub(super) fn most_attempts(
        &self,
        context: &Context,
        before: Option<Before>,
    ) -> Result<u32, Error> {
        let most = self.shared.max_attempts;
        match before {
            None => Ok(match context.arrival {
                Arrival::First => most,
                Arrival::Repeat => 1,
            }),
            Some(before) if before.attempts < most => Ok(1),
            Some(before) => Err(Error::new(before.kind).after(Sent::Maybe)),
        }
    }

    /// Leave of breaker and quota.
    async fn leave<'a>(
        &'a self,
        call: &'a Call,
        key: &'a Key,
        context: &'a Context,
        counted: Option<Counted<'a>>,
    ) -> Result<Leave<'a>, Error> {
        let permit = self.shared.breaker.admit(&call.site_key).map_err(refusal)?;
        let caller = context.caller.as_deref();
        let counted = if let Some(counted) = counted {
            // With the reservation of its name.
            counted.allowed()?
        } else {
            let quota = &self.shared.quota;
            quota.admit(key, caller, &context.progress).await?
        };
        Ok(Leave { permit, counted })
    }

    /// Makes one attempt, and tells quota and breaker how it ended.
    async fn try_once(
        &self,
        call: &Call,
        key: &Key,
        context: &Context,
        leave: Leave<'_>,
        share: Share,
    ) -> Result<Reply, Failure> {
        let attempt = self.shared.attempts.begin(call, context);
        let sent = self.http.send(call, key, context, &attempt, share);
        let ended = sent.await;
        match &ended {
            Ok(reply) => {
                attempt.answered(reply.status);
                leave.counted.answered(reply.status, reply.retry_after);
            }
            Err(failure) => attempt.lost(cause(failure)),
        }
        if let Some(health) = health(&ended) {
            leave.permit.found(health);
        }
        ended
    }

    /// Whether to try again; waits for as long as that takes.
    async fn again(
        &self,
        ended: &Result<Reply, Failure>,
        effect: Effect,
        context: &Context,
        made: u32,
        most: u32,
        reserved: Option<Reservation<'_>>,
    ) -> Decision {
        let shared = &*self.shared;
        let (reached, outcome) = retry::outcome(ended);
        let means = || Means {
            attempts: most.saturating_sub(made),
            time: context.deadline.saturating_duration_since(Instant::now()),
            delay: shared.backoff.delay(made),
            funds: match reserved {
                Some(_) => Funds::Left,
                None => shared.budget.funds(),
            },
        };
        let mut decision = retry::decide(effect, reached, outcome, means);
        if let Decision::Repeat(_) = decision {
            match reserved {
                Some(reserved) => reserved.spend(),
                None if shared.budget.spend() => {}
                None => decision = Decision::Final(Why::Budget),
            }
        }
        let result = match decision {
            Decision::Repeat(_) => "retried",
            Decision::Final(why) => why.as_str(),
        };
        match (ended, outcome) {
            (Err(failure), _) => shared.metrics.retried(cause(failure), result),
            (Ok(_), Outcome::Lost) => shared.metrics.retried("reply_cut_short", result),
            (Ok(reply), _) if reply.status.is_server_error() => {
                shared.metrics.retried("server_error", result);
            }
            (Ok(_), _) => {}
        }
        if let Decision::Repeat(delay) = decision {
            sleep(delay).await;
        }
        decision
    }
}

/// What an attempt that is followed by another leaves behind.
fn fate_after(reached: Reached, earlier: Sent) -> Sent {
    if reached <= Reached::Connected {
        earlier
    } else {
        Sent::Maybe
    }
}

fn refusal(stopped: Stopped) -> Error {
    let refusal = match stopped.cause {
        Cause::Failures => Refusal::CircuitOpen,
        Cause::Offline => Refusal::Maintenance,
    };
    Error::new(refusal).retry_after(stopped.retry_after)
}

/// What an attempt says of OnboardFlow's health, if anything: a time-out may be the caller's haste.
fn health(ended: &Result<Reply, Failure>) -> Option<Health> {
    match ended {
        Ok(reply) if reply.status == 503 => Some(Health::Offline(reply.retry_after)),
        Ok(reply) if reply.status.is_server_error() && reply.status != 501 => Some(Health::Failing),
        Ok(_) => Some(Health::Up),
        Err(failure) if failure.fault == Fault::TimeUp => None,
        Err(failure) if failure.reached == Reached::Nothing => Some(Health::Unreachable),
        Err(_) => Some(Health::Failing),
    }
}

fn cause(failure: &Failure) -> &'static str {
    match (failure.fault, failure.reached) {
        (Fault::TimeUp, _) => "timeout",
        (Fault::Stale | Fault::Lost, Reached::Nothing) => "unreachable",
        (Fault::Stale | Fault::Lost, Reached::Connected) => "connection_refused_request",
        (Fault::Stale | Fault::Lost, Reached::Sent | Reached::Head | Reached::Body) => {
            "connection_lost"
        }
    }
}

impl Last {
    /// What a call came to. Where an earlier attempt may have been taken, nothing that the last one
    /// met says that the write was not.
    fn conclude(self, effect: Effect) -> Result<Answered, Error> {
        let Self { ended, earlier } = self;
        let failure = match ended {
            Ok(reply) => return Ok(Answered { reply, earlier }),
            Err(failure) => failure,
        };
        let sent = fate_after(failure.reached, earlier);
        let loss = match (failure.fault, sent) {
            (Fault::TimeUp, _) => Loss::DeadlineExceeded(sent),
            (Fault::Stale | Fault::Lost, Sent::No) => Loss::Unreachable,
            (Fault::Stale | Fault::Lost, Sent::Maybe) => Loss::Connection(effect),
        };
        Err(Error::new(loss).because(failure.cause))
    }
}
