//! Metrics of the ledger. Without one there are none. Knows no store.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{add, add_seconds, histogram::Histogram};

/// Metrics of the ledger.
#[derive(Clone, Debug, Default)]
pub struct LedgerMetrics {
    entries: Family<[(&'static str, &'static str); 1], Gauge>,
    oldest_unknown: Gauge,
    answers: Family<[(&'static str, &'static str); 1], Counter>,
    duration: Histogram,
    reachable: Gauge,
}

impl LedgerMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            entries: add(registry, "ledger_entries", "Writes in the ledger, by state"),
            oldest_unknown: add_seconds(
                registry,
                "ledger_oldest_unknown_age",
                "Age of the oldest write of unknown outcome; 0 if there is none",
            ),
            answers: add(
                registry,
                "ledger_answers",
                "What the ledger said to writes with a request_id",
            ),
            duration: add_seconds(
                registry,
                "ledger_operation_duration",
                "How long work on the ledger took",
            ),
            reachable: add(
                registry,
                "ledger_up",
                "1 if the last work on the ledger succeeded",
            ),
        }
    }

    /// Notes how many writes are in a state.
    pub fn entries(&self, state: &'static str, number: i64) {
        self.entries.get_or_create(&[("state", state)]).set(number);
    }

    /// Notes the age of the oldest write of unknown fate.
    pub fn oldest_unknown(&self, age: Duration) {
        let seconds = i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
        self.oldest_unknown.set(seconds);
    }

    /// Counts what a write was told.
    pub fn answered(&self, answer: &'static str) {
        self.answers.get_or_create(&[("answer", answer)]).inc();
    }

    /// Notes how long work took, and what came of it.
    pub fn worked<T, E>(&self, duration: Duration, done: &Result<T, E>) {
        self.duration.observe(duration);
        self.reachable.set(done.is_ok().into());
    }
}
