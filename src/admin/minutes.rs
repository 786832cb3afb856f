//! How calls ended in the last half hour, minute by minute. It costs less than two kilobytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};

use super::series::Series;
use crate::telemetry::Metrics;

const MINUTE: Duration = Duration::from_secs(60);
/// Minutes that are shown.
pub(super) const MOST: usize = 30;

/// Calls by what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcomes {
    pub(super) ok: u64,
    /// What was asked for was refused, by the gateway or by OnboardFlow.
    pub(super) refused: u64,
    /// The gateway, or OnboardFlow, failed.
    pub(super) failed: u64,
}

/// The counts at the end of each minute, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Minutes(Arc<Mutex<VecDeque<Outcomes>>>);

impl Outcomes {
    /// Those since the start, as the metrics count them.
    pub(super) fn since_the_start(series: &Series<'_>) -> Self {
        let mut outcomes = Self::default();
        for (code, calls) in series.sums("grpc_server_handled_total", "grpc_code") {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a counter"
            )]
            let calls = calls as u64;
            match code {
                "OK" => outcomes.ok += calls,
                "Unknown" | "DeadlineExceeded" | "Unimplemented" | "Internal" | "Unavailable"
                | "DataLoss" => outcomes.failed += calls,
                _ => outcomes.refused += calls,
            }
        }
        outcomes
    }

    pub(super) fn all(self) -> u64 {
        self.ok + self.refused + self.failed
    }

    fn minus(self, earlier: Self) -> Self {
        Self {
            ok: self.ok.saturating_sub(earlier.ok),
            refused: self.refused.saturating_sub(earlier.refused),
            failed: self.failed.saturating_sub(earlier.failed),
        }
    }
}

impl Minutes {
    /// Counts on, minute by minute.
    pub(super) async fn follow(self, metrics: Metrics) {
        let mut minutes = interval(MINUTE);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            minutes.tick().await;
            if let Ok(metrics) = metrics.encode() {
                self.end_with(Outcomes::since_the_start(&Series::read(&metrics)));
            }
        }
    }

    fn end_with(&self, now: Outcomes) {
        let mut ends = self.ends();
        ends.push_back(now);
        if ends.len() > MOST {
            ends.pop_front();
        }
    }

    /// The calls of each minute, the oldest first, with the one that isn't over.
    pub(super) fn until(&self, now: Outcomes) -> Vec<Outcomes> {
        let ends = self.ends();
        let later = ends.iter().skip(1).chain([&now]);
        let minutes = ends.iter().zip(later);
        minutes.map(|(begin, end)| end.minus(*begin)).collect()
    }

    fn ends(&self) -> MutexGuard<'_, VecDeque<Outcomes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_half_hour_is_kept() {
        let minutes = Minutes::default();
        let ok = |ok| Outcomes {
            ok,
            ..Outcomes::default()
        };
        assert_eq!(minutes.until(ok(1)), []);
        for end in 0..1000 {
            minutes.end_with(ok(end));
        }
        let shown = minutes.until(ok(1005));
        assert_eq!(shown.len(), MOST);
        assert_eq!((shown[0], shown[MOST - 1]), (ok(1), ok(6)));
    }
}
