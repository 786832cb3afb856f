//! How long a connection lives: until it is old, idle, stuck, or told to go away. Closes none itself, and
//! knows no call.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::streams::Streams;
use crate::{config::ConnectionConfig, telemetry::Closed};

/// Time that a connection without streams stays after a GOAWAY, for calls that were on their way
/// before the peer read it.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Longest time that the answers take to be written at the end of a grace.
pub(super) const FLUSH: Duration = Duration::from_millis(500);
/// Looks at a connection in the time for which it has to be without streams.
const LOOKS: u32 = 20;

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
    pub(super) streams: Arc<Streams>,
    /// Cancelled when it has to make room for others.
    pub(super) leave: CancellationToken,
    /// Cancelled when the connection goes away, for its own sake or with all others.
    pub(super) going_away: CancellationToken,
    /// Cancelled when its calls have to end.
    pub(super) over: CancellationToken,
}

impl Life {
    /// Ready when the connection has to go away, or be closed at once.
    pub(super) async fn serving(&self) -> Turn {
        tokio::select! {
            () = self.going_away.cancelled() => Turn::GoAway(Closed::Drained),
            () = sleep_until(self.accepted + jittered(self.config.max_age)) => {
                Turn::GoAway(Closed::Aged)
            }
            () = self.unused(self.config.max_idle) => Turn::GoAway(Closed::Idle),
            () = self.stuck() => Turn::Close(Closed::Abusive),
            // One that never had a call misses none.
            () = self.leave.cancelled() => match self.streams.opened() {
                0 => Turn::Close(Closed::Crowded),
                1.. => Turn::GoAway(Closed::Crowded),
            },
        }
    }

    /// Ready when a connection that goes away has to be closed. Ends its calls before that.
    pub(super) async fn leaving(&self, reason: Closed) -> Turn {
        tokio::select! {
            () = self.end_of_grace(reason) => Turn::Close(reason),
            () = self.unused(LINGER) => Turn::Close(reason),
            () = self.stuck() => Turn::Close(Closed::Abusive),
        }
    }

    async fn end_of_grace(&self, reason: Closed) {
        let over = self.over.cancelled();
        if reason == Closed::Drained {
            // With all others: the drain's own timeout says when calls are over.
            over.await;
        } else {
            let _ = timeout(self.config.max_age_grace, over).await;
        }
        self.over.cancel();
        sleep(FLUSH).await;
    }

    /// Ready when no stream has been open for this long.
    async fn unused(&self, time: Duration) {
        let mut since = Instant::now();
        let mut opened = self.streams.opened();
        while since.elapsed() < time {
            sleep(time / LOOKS).await;
            if self.streams.open() > 0 || self.streams.opened() != opened {
                since = Instant::now();
                opened = self.streams.opened();
            }
        }
    }

    /// Ready when a call has been open for longer than one can: its answer isn't taken. That may be
    /// found as late as after twice the time.
    async fn stuck(&self) {
        loop {
            sleep(self.stuck_after).await;
            if !self.streams.next_period() {
                return;
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
