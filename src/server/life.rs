//! How long a connection lives: until it is old, idle, stuck, or told to go away.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    streams::{PERIODS, Streams},
    wire::Conduct,
};
use crate::{config::ConnectionConfig, telemetry::Closed};

/// Time that a connection without streams stays after a GOAWAY, for calls that were on their way
/// before the peer read it.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Longest time that the answers take to be written at the end of a grace.
pub(super) const FLUSH: Duration = Duration::from_millis(500);
/// Time between looks at a connection that goes away.
const LEAVING_TICK: Duration = Duration::from_millis(100);

/// What a connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// No more calls on it; those that are there finish.
    GoAway(Closed),
    /// Close it now.
    Close(Closed),
}

/// One connection's life.
pub(super) struct Life {
    pub(super) config: ConnectionConfig,
    pub(super) accepted: Instant,
    /// Longest time from a call's arrival to the end of its answer.
    pub(super) stuck_after: Duration,
    pub(super) conduct: Arc<Conduct>,
    pub(super) streams: Arc<Streams>,
    /// Cancelled when the connection goes away, for its own sake or with all others.
    pub(super) going_away: CancellationToken,
    /// Cancelled when its calls have to end.
    pub(super) over: CancellationToken,
}

impl Life {
    /// Ready when the connection has to go away, or be closed at once.
    pub(super) async fn serving(&self) -> Turn {
        let age = sleep_until(self.accepted + jittered(self.config.max_age));
        tokio::select! {
            () = self.going_away.cancelled() => Turn::GoAway(Closed::Drained),
            () = age => Turn::GoAway(Closed::Aged),
            turn = self.misconduct(self.config.max_idle) => turn,
        }
    }

    /// Ready when a connection that goes away has to be closed. Ends its calls before that.
    pub(super) async fn leaving(&self, reason: Closed) -> Turn {
        // With all others, the drain's own timeout says when calls are over.
        let grace = async {
            match reason {
                Closed::Drained => self.over.cancelled().await,
                _ => {
                    let _ = timeout(self.config.max_age_grace, self.over.cancelled()).await;
                }
            }
            self.over.cancel();
            sleep(FLUSH).await;
        };
        tokio::select! {
            () = grace => Turn::Close(reason),
            () = self.quiet() => Turn::Close(reason),
            turn = self.misconduct(Duration::MAX) => turn,
        }
    }

    /// Ready when no stream has been open for a while.
    async fn quiet(&self) {
        let mut since = Instant::now();
        let mut opened = self.streams.opened();
        while since.elapsed() < LINGER {
            sleep(LEAVING_TICK).await;
            if self.streams.open() > 0 || self.streams.opened() != opened {
                since = Instant::now();
                opened = self.streams.opened();
            }
        }
    }

    /// Ready when the peer doesn't do what a peer does.
    async fn misconduct(&self, max_idle: Duration) -> Turn {
        let ConnectionConfig {
            handshake_timeout,
            stall_timeout,
            ..
        } = self.config;
        let shortest = max_idle
            .min(handshake_timeout)
            .min(stall_timeout)
            .min(self.period() * 4);
        let mut ticks = interval((shortest / 4).max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle = Unchanged::new();
        let mut partial = Unchanged::new();
        let mut period = Instant::now();
        loop {
            let now = ticks.tick().await;
            if !self.conduct.greeted.load(Relaxed)
                && now.duration_since(self.accepted) >= handshake_timeout
            {
                return Turn::Close(Closed::NoHandshake);
            }
            let is_idle = self.streams.open() == 0;
            if idle.lasts(is_idle, self.streams.opened(), now) >= max_idle {
                return Turn::GoAway(Closed::Idle);
            }
            let is_partial = self.conduct.partial.load(Relaxed);
            let whole = self.conduct.whole.load(Relaxed);
            if partial.lasts(is_partial, whole, now) >= stall_timeout {
                return Turn::Close(Closed::Abusive);
            }
            if now.duration_since(period) >= self.period() {
                period = now;
                if !self.streams.next_period() {
                    return Turn::Close(Closed::Abusive);
                }
            }
        }
    }

    /// A call that is there for all but one of them is stuck.
    #[expect(clippy::cast_possible_truncation, reason = "eight periods")]
    fn period(&self) -> Duration {
        self.stuck_after / (PERIODS as u32 - 1)
    }
}

/// Since when a condition holds with the same count.
struct Unchanged {
    since: Option<(Instant, u64)>,
}

impl Unchanged {
    fn new() -> Self {
        Self { since: None }
    }

    fn lasts(&mut self, holds: bool, count: u64, now: Instant) -> Duration {
        match self.since {
            Some((since, same)) if holds && same == count => now.duration_since(since),
            _ => {
                self.since = holds.then_some((now, count));
                Duration::ZERO
            }
        }
    }
}

/// ±10%, so that connections that began together don't end together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(fastrand::f64().mul_add(0.2, 0.9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_spread_by_a_tenth_either_way() {
        let ages: Vec<_> = (0..1000)
            .map(|_| jittered(Duration::from_secs(1000)).as_secs())
            .collect();
        assert!(ages.iter().all(|age| (900..=1100).contains(age)));
        assert!(ages.iter().any(|age| *age < 920));
        assert!(ages.iter().any(|age| *age > 1080));
    }
}
