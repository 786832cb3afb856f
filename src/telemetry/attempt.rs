//! One attempt at OnboardFlow: its metrics, its span, and what the call's log line says of it. Doesn't know
//! whether there is another one.

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::upstream::{Attempts, Target};
use crate::{
    context::{Context, Progress, Trace},
    rest::Call,
};

/// The reasons of attempts that were given up: the call's time was up, or the caller went.
const LATE: &str = "timeout";
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
    ended: Ended,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
enum Ended {
    /// It was dropped: because the call's time was up, or because the caller went.
    GivenUp,
    /// It was answered, and the answer was read as far as it could be.
    Answered(StatusCode),
    /// There was no answer, for this reason.
    Lost(&'static str),
}

impl Attempts {
    /// Begins an attempt at a call.
    #[must_use]
    pub fn begin(&self, call: &Call, context: &Context) -> Attempt {
        self.begun();
        let before = context.progress.attempted();
        Attempt {
            handles: self.clone(),
            target: Target {
                method: call.method.clone(),
                template: call.template,
            },
            started: Instant::now(),
            deadline: context.deadline,
            progress: context.progress.clone(),
            trace: context.trace.attempt(call, self, before),
            ended: Ended::GivenUp,
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
        self.ended = Ended::Answered(status);
    }

    /// It ended without an answer.
    pub fn lost(mut self, error_type: &'static str) {
        self.ended = Ended::Lost(error_type);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let now = Instant::now();
        let duration = now - self.started;
        self.progress.spent_upstream(duration);
        let error_type = match self.ended {
            Ended::Answered(status) => {
                self.handles.answered(&self.target, status, duration);
                return self.trace.end_answered(status);
            }
            Ended::Lost(error_type) => error_type,
            Ended::GivenUp if now >= self.deadline => LATE,
            Ended::GivenUp => CANCELLED,
        };
        self.handles.lost(&self.target, error_type, duration);
        self.trace.end_lost(error_type);
    }
}
