//! Whether a call is tried again, and when. The decision is pure; the loop stands in
//! [`super::attempts`].

use std::{
    mem,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use http::StatusCode;

use crate::rest::{Effect, Ending, Reply};

use super::failure::{Failure, Fault, Reached};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The connection failed.
    Lost,
    /// The attempt took longer than it may.
    TimedOut,
    /// There was a reply.
    Answered(StatusCode),
}

/// What a decision came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Try again after this delay.
    Repeat(Duration),
    /// The outcome stands.
    Final(Why),
}

/// Why an outcome stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Nothing failed, or another try could do harm or would change nothing.
    Unsafe,
    /// `--max-attempts` were made.
    Attempts,
    /// The delay doesn't fit into the time left.
    Time,
    /// Too many calls are being retried already.
    Budget,
}

impl Why {
    /// For metrics: why there is no retry.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Unsafe => "unsafe",
            Self::Attempts => "attempts_spent",
            Self::Time => "no_time_left",
            Self::Budget => "budget_spent",
        }
    }
}

/// What another try may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Means {
    /// Attempts that are left.
    pub(super) attempts: u32,
    /// Time to the call's deadline.
    pub(super) time: Duration,
    /// The wait before the next attempt.
    pub(super) delay: Duration,
    /// What the budget has.
    pub(super) funds: Funds,
}

/// Whether the budget has a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Funds {
    /// At least one.
    Left,
    /// None.
    Spent,
}

/// Whether to try again. A create is repeated only where it provably never left; an update also
/// where its fate is unknown. 429 is never repeated: quotas are per day, and every call costs. The means take
/// the clock and a random number, so they are asked for last: most calls succeed.
pub(super) fn decide(
    effect: Effect,
    reached: Reached,
    outcome: Outcome,
    means: impl FnOnce() -> Means,
) -> Decision {
    let never_left = reached <= Reached::Connected;
    let is_safe = match outcome {
        Outcome::Lost | Outcome::TimedOut => never_left || effect.may_repeat(),
        Outcome::Answered(status) => effect.may_repeat() && matches!(status.as_u16(), 502 | 504),
    };
    if !is_safe {
        return Decision::Final(Why::Unsafe);
    }
    let means = means();
    if means.attempts == 0 {
        Decision::Final(Why::Attempts)
    } else if means.time <= means.delay {
        Decision::Final(Why::Time)
    } else if means.funds == Funds::Spent {
        Decision::Final(Why::Budget)
    } else {
        Decision::Repeat(means.delay)
    }
}

/// How an attempt ended, in the decision's terms.
pub(super) fn outcome(ended: &Result<Reply, Failure>) -> (Reached, Outcome) {
    match ended {
        Err(failure) => {
            let outcome = match failure.fault {
                Fault::TimeUp => Outcome::TimedOut,
                Fault::Stale | Fault::Lost => Outcome::Lost,
            };
            (failure.reached, outcome)
        }
        // A success that was lost on its way back. A refusal needs no more than its status.
        Ok(reply) if reply.ending == Ending::CutShort && reply.status.is_success() => {
            (Reached::Head, Outcome::Lost)
        }
        Ok(reply) => (Reached::Body, Outcome::Answered(reply.status)),
    }
}

/// Exponential backoff with full jitter: a random part of a time that doubles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) base: Duration,
    pub(super) cap: Duration,
    /// A number from 0 to 1, another one each time.
    pub(super) random: fn() -> f64,
}

impl Backoff {
    /// The wait after this many attempts.
    pub(super) fn delay(&self, attempts: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        let longest = self.base.saturating_mul(doubled).min(self.cap);
        longest.mul_f64((self.random)().clamp(0.0, 1.0))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(50),
            cap: Duration::from_secs(1),
            random: fastrand::f64,
        }
    }
}

/// The retries that all calls of all workers share: one for every five calls, and a few in hand for
/// a quiet hour. So an upstream that fails gets at most a fifth more load.
#[derive(Debug)]
pub(super) struct Budget {
    /// In fifths of a retry.
    fifths: AtomicU32,
}

impl Budget {
    const RETRY: u32 = 5;
    const FULL: u32 = 20 * Self::RETRY;

    pub(super) fn new() -> Self {
        Self {
            fifths: AtomicU32::new(Self::FULL),
        }
    }

    /// Notes a call.
    pub(super) fn deposit(&self) {
        // Nearly always full: then there is nothing to write, and no cache line to fight for.
        if self.fifths.load(Ordering::Relaxed) < Self::FULL {
            self.fifths.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sets a retry aside for an attempt that makes room for it, while at least half of the budget is
    /// left for those who need one at once.
    pub(super) fn reserve(&self) -> Option<Reservation<'_>> {
        let take = |fifths: u32| {
            fifths
                .checked_sub(Self::RETRY)
                .filter(|left| *left >= Self::FULL / 2)
        };
        self.change(take).then(|| Reservation(self))
    }

    fn change(&self, by: impl FnMut(u32) -> Option<u32>) -> bool {
        let changed = self
            .fifths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, by);
        changed.is_ok()
    }

    pub(super) fn funds(&self) -> Funds {
        if self.fifths.load(Ordering::Relaxed) >= Self::RETRY {
            Funds::Left
        } else {
            Funds::Spent
        }
    }

    /// Spends a retry, if there is one.
    pub(super) fn spend(&self) -> bool {
        self.change(|fifths| fifths.checked_sub(Self::RETRY))
    }
}

/// A retry that was set aside. It goes back unless it is spent.
#[derive(Debug)]
pub(super) struct Reservation<'a>(&'a Budget);

impl Reservation<'_> {
    pub(super) fn spend(self) {
        mem::forget(self);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.0
            .change(|fifths| Some((fifths + Budget::RETRY).min(Budget::FULL)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: Means = Means {
        attempts: 1,
        time: Duration::from_secs(1),
        delay: Duration::from_millis(50),
        funds: Funds::Left,
    };

    fn outcomes() -> impl Iterator<Item = (Reached, Outcome)> {
        use Reached::{Body, Connected, Head, Nothing, Sent};

        let lost = [Nothing, Connected, Sent, Head].map(|reached| (reached, Outcome::Lost));
        let timed_out =
            [Nothing, Connected, Sent, Head].map(|reached| (reached, Outcome::TimedOut));
        let answered = (100..600).map(|status| {
            (
                Body,
                Outcome::Answered(StatusCode::from_u16(status).unwrap()),
            )
        });
        lost.into_iter().chain(timed_out).chain(answered)
    }

    /// The table of docs/faults.md, written down another way.
    fn may_repeat(effect: Effect, reached: Reached, outcome: Outcome) -> bool {
        let is_lost = !matches!(outcome, Outcome::Answered(_));
        match effect {
            _ if reached < Reached::Sent => true,
            Effect::Creates => false,
            Effect::Updates | Effect::Deletes => {
                is_lost
                    || outcome == Outcome::Answered(StatusCode::BAD_GATEWAY)
                    || outcome == Outcome::Answered(StatusCode::GATEWAY_TIMEOUT)
            }
        }
    }

    #[test]
    fn every_input() {
        for effect in [Effect::Creates, Effect::Updates, Effect::Deletes] {
            for (reached, outcome) in outcomes() {
                for bits in 0..8_u32 {
                    let (attempts, has_time, has_funds) = (bits & 1, bits & 2 != 0, bits & 4 != 0);
                    let time = if has_time { PLENTY.time } else { PLENTY.delay };
                    let funds = if has_funds { Funds::Left } else { Funds::Spent };
                    let means = Means {
                        attempts,
                        time,
                        funds,
                        ..PLENTY
                    };
                    let expected = match (attempts, has_time, has_funds) {
                        _ if !may_repeat(effect, reached, outcome) => Decision::Final(Why::Unsafe),
                        (0, _, _) => Decision::Final(Why::Attempts),
                        (_, false, _) => Decision::Final(Why::Time),
                        (_, _, false) => Decision::Final(Why::Budget),
                        (_, true, true) => Decision::Repeat(PLENTY.delay),
                    };
                    assert_eq!(
                        decide(effect, reached, outcome, || means),
                        expected,
                        "{effect:?} {reached:?} {outcome:?} {means:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn delays_double_up_to_their_cap_and_are_jittered() {
        let most = Backoff {
            random: || 1.0,
            ..Backoff::default()
        };
        let delays: Vec<_> = (1..8).map(|n| most.delay(n).as_millis()).collect();
        assert_eq!(delays, [50, 100, 200, 400, 800, 1000, 1000]);
        let half = Backoff {
            random: || 0.5,
            ..Backoff::default()
        };
        assert_eq!(half.delay(2), Duration::from_millis(50));
        assert_eq!(most.delay(u32::MAX), Duration::from_secs(1));
    }

    #[test]
    fn a_fifth_of_the_calls_may_be_retried() {
        let budget = Budget::new();
        while budget.spend() {}
        assert_eq!(budget.funds(), Funds::Spent);
        let retries = (0..1000)
            .filter(|_| {
                budget.deposit();
                budget.spend()
            })
            .count();
        assert_eq!(retries, 200);
    }

    #[test]
    fn no_more_attempts_make_room_than_there_are_retries_for() {
        let budget = Budget::new();
        let reserved: Vec<_> = std::iter::from_fn(|| budget.reserve()).collect();
        assert_eq!(reserved.len(), 10);
        assert!(budget.spend(), "half of it is left for others");
        drop(reserved);
        let left = std::iter::from_fn(|| budget.spend().then_some(())).count();
        assert_eq!(left, 19);

        let budget = Budget::new();
        budget.reserve().unwrap().spend();
        let left = std::iter::from_fn(|| budget.spend().then_some(())).count();
        assert_eq!(left, 19);
    }
}
