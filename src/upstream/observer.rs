//! What metrics are told of: what happens on the way out that no caller sees.

use std::fmt;

pub(super) use crate::telemetry::BreakerState;
use crate::telemetry::Metrics;

/// Is told what happens on the way out. Every method does nothing unless it is written.
pub(super) trait Observer: fmt::Debug + Send + Sync {
    /// An attempt failed, and another one was thought of: why it failed, and `retried` or what
    /// stood against it.
    fn retried(&self, cause: &'static str, result: &'static str) {
        let _ = (cause, result);
    }
    /// The circuit breaker changed its state.
    fn breaker(&self, state: BreakerState) {
        let _ = state;
    }
    /// `--daily-quota` leaves a key this many calls today. `key` names it, and is not the key.
    fn quota_left(&self, key: &str, calls: u64) {
        let _ = (key, calls);
    }
    /// A reply has a field that the gateway doesn't know.
    fn unknown_field(&self, path: &str) {
        let _ = path;
    }
}

/// Counts it.
impl Observer for Metrics {
    fn retried(&self, cause: &'static str, result: &'static str) {
        self.upstream.retried(cause, result);
    }

    fn breaker(&self, state: BreakerState) {
        self.upstream.breaker(state);
    }

    fn quota_left(&self, key: &str, calls: u64) {
        self.upstream.quota_left(key, calls);
    }

    fn unknown_field(&self, path: &str) {
        self.upstream.unknown_field(path);
    }
}

/// Tells nobody.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Unobserved;

#[cfg(test)]
impl Observer for Unobserved {}
