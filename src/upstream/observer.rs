//! The seam for metrics: what happens on the way out that no caller sees.

use std::{fmt, time::Duration};

use http::{Method, StatusCode};

/// What the circuit breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// It lets them through.
    Closed,
    /// It lets one through, to see how it fares.
    HalfOpen,
    /// It refuses them.
    Open,
}

/// Is told what happens on the way out. Every method does nothing unless it is written.
pub trait Observer: fmt::Debug + Send + Sync {
    /// An attempt was answered, after this time.
    fn answered(&self, method: &Method, status: StatusCode, took: Duration) {
        let _ = (method, status, took);
    }
    /// An attempt ended without an answer.
    fn lost(&self, method: &Method, reason: &'static str, took: Duration) {
        let _ = (method, reason, took);
    }
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
    /// The key files were read again: whether that went well.
    fn credentials_read(&self, well: bool) {
        let _ = well;
    }
    /// A reply has a field that the gateway doesn't know.
    fn unknown_field(&self, path: &str) {
        let _ = path;
    }
}

/// Tells nobody.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {}
