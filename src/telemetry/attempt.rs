//! One attempt at OnboardFlow: its metrics, its span, and what the call's log line says of it. Doesn't know
//! whether there is another one.

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::upstream::{Attempts, Target};
use crate::{
    context::{Context, Progress, Trace},
    rest::Call,
};

/// What an attempt is counted as that was dropped before its answer: because the call's time was up,
const LATE: &str = "timeout";
/// or because the caller went.
const CANCELLED: &str = "cancelled";

/// An attempt under way. It is counted when it ends, however it does.
#[derive(Debug)]
pub struct Attempt {
    handles: Attempts,
    target: Target,
    started: Instant,
    deadline: Instant,
    progress: Progress,
    trace: Trace,
    ended: bool,
}

impl Attempts {
    /// Begins an attempt at a call.
    #[must_use]
    pub fn begin(&self, call: &Call, context: &Context) -> Attempt {
        self.begun();
        let before = context.progress.attempted();
        Attempt {
            handles: self.clone(),
            target: call.into(),
            started: Instant::now(),
            deadline: context.deadline,
            progress: context.progress.clone(),
            trace: context.trace.attempt(call, self, before),
            ended: false,
        }
    }
}

impl Attempt {
    /// Tells OnboardFlow of the trace that the attempt belongs to.
    pub fn inject(&self, headers: &mut HeaderMap) {
        self.trace.inject(headers);
    }

    /// It was answered, and the answer was read as far as it could be.
    pub fn answered(mut self, status: StatusCode) {
        self.ended = true;
        let duration = self.started.elapsed();
        self.progress.spent_upstream(duration);
        self.handles.answered(&self.target, status, duration);
        self.trace.end_answered(status);
    }

    /// It ended without an answer.
    pub fn lost(mut self, error_type: &'static str) {
        self.end(error_type);
    }

    fn end(&mut self, error_type: &'static str) {
        self.ended = true;
        let duration = self.started.elapsed();
        self.progress.spent_upstream(duration);
        self.handles.lost(&self.target, error_type, duration);
        self.trace.end_lost(error_type);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            let is_late = Instant::now() >= self.deadline;
            self.end(if is_late { LATE } else { CANCELLED });
        }
    }
}
