//! The load: gRPC calls over HTTP/2 with h2 itself, from one thread, so that the load costs less
//! than what it drives. Every reply is compared with the worked example's, byte for byte, and its
//! trailers must say that it is OK.

mod client;
mod open;

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

pub(crate) use self::{client::Client, open::open};

/// What came of a load.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Replies that were right.
    pub(crate) calls: usize,
    /// Calls that failed, or whose reply was wrong.
    pub(crate) failures: usize,
    /// How long the load lasted.
    pub(crate) elapsed: Duration,
    /// Latencies of the calls, in order of size once [`Outcome::finish`] was called.
    latencies: Vec<Duration>,
}

impl Outcome {
    fn count(&mut self, is_right: bool, since: Instant) {
        if is_right {
            self.calls += 1;
            self.latencies.push(since.elapsed());
        } else {
            self.failures += 1;
        }
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.latencies.extend(other.latencies);
    }

    fn finish(mut self, elapsed: Duration) -> Self {
        self.elapsed = elapsed;
        self.latencies.sort_unstable();
        self
    }

    /// Calls a second.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency, in milliseconds, within which this share of the calls was answered.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        let latency = self.latencies.get(rank.saturating_sub(1));
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// When a closed loop ends.
#[derive(Clone, Copy)]
pub(crate) enum End {
    After(Duration),
    Calls(usize),
}

/// A closed loop: so many calls in flight at any time, spread over the client's connections, each
/// followed by the next.
pub(crate) async fn closed(client: &Rc<Client>, in_flight: usize, end: End) -> Outcome {
    let begun = Instant::now();
    let begun_calls = Rc::new(Cell::new(0));
    let mut slots = JoinSet::new();
    for slot in 0..in_flight {
        let (client, begun_calls) = (Rc::clone(client), Rc::clone(&begun_calls));
        slots.spawn_local(async move {
            let mut outcome = Outcome::default();
            // A slot moves on by the number of slots, so that all connections get their turn.
            let mut connection = slot;
            while end.is_to_come(begun, begun_calls.get()) {
                begun_calls.set(begun_calls.get() + 1);
                let called = Instant::now();
                let is_right = client.call(connection).await.is_ok();
                outcome.count(is_right, called);
                connection += in_flight;
            }
            outcome
        });
    }
    let mut total = Outcome::default();
    while let Some(outcome) = slots.join_next().await {
        total.add(outcome.unwrap_or_default());
    }
    total.finish(begun.elapsed())
}

impl End {
    fn is_to_come(self, begun: Instant, begun_calls: usize) -> bool {
        match self {
            Self::After(duration) => begun.elapsed() < duration,
            Self::Calls(calls) => begun_calls < calls,
        }
    }
}
