//! The table of failures: for each thing that can happen, the gRPC code, the reason, what became of
//! the write, the level of its log line, when to try again, what is said of it and what to do. This
//! is the one place where they are decided.
//!
//! A caller reads three sentences: what happened, what became of the write, and what to do. They are
//! always the gateway's own words, so that nothing can leak through them.

use std::time::Duration;

use tonic::Code;
use tracing::Level;

use super::{
    kind::{Answer, Earlier, Kind, Loss, Refusal},
    write::{Sent, Write},
};
use crate::rest::{Effect, KeyHolder};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The gRPC code.
    pub code: Code,
    /// `reason` of `google.rpc.ErrorInfo`.
    pub reason: &'static str,
    /// What became of the write.
    pub write: Write,
    /// Of the log line. Error: an operator has to act. Warn: something outside is failing. Info: the
    /// caller's business.
    pub level: Level,
    /// When to try again.
    pub retry: Retry,
    /// What happened.
    pub happened: &'static str,
    /// What a caller should do about it.
    pub advice: Advice,
    /// The limit that stands in the way.
    pub limit: Option<Limit>,
}

/// When it makes sense to send a call again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Waiting does not help.
    No,
    /// After this time, unless OnboardFlow named another.
    After(Duration),
    /// After this time, unless OnboardFlow named another, and never by a client's own retry policy:
    /// a quota stays spent for hours, and a maintenance outlasts any such policy.
    NotByPolicy(Duration),
}

/// What a caller should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// This.
    Do(&'static str),
    /// What the fate of the write and the effect of the call demand.
    ByEffect,
}

/// Whose limit of calls a day is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The OnboardFlow account's.
    Account,
    /// The caller's.
    Caller,
}

impl Kind {
    /// The row of the table.
    pub fn row(self) -> Row {
        match self {
            Self::Refused(refusal) => refusal.row(),
            Self::Earlier(earlier) => earlier.row(),
            Self::Lost(loss) => loss.row(),
            Self::Answered(answer) => answer.row(),
        }
    }
}

use Advice::{ByEffect, Do};
use Code::{
    Aborted, AlreadyExists, Cancelled, DeadlineExceeded, FailedPrecondition, Internal,
    InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable,
    Unimplemented,
};
use Retry::{After, No, NotByPolicy};
use Write::{Applied, NotSent, Rejected, Unknown};

const INFO: Level = Level::INFO;
const WARN: Level = Level::WARN;
const ERROR: Level = Level::ERROR;

const SOON: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// The quota is per day: an hour is often enough to notice, and seldom enough to cost little.
const HOUR: Duration = Duration::from_secs(3600);

const fn row(
    code: Code,
    reason: &'static str,
    write: Write,
    level: Level,
    retry: Retry,
    happened: &'static str,
    advice: Advice,
) -> Row {
    Row {
        code,
        reason,
        write,
        level,
        retry,
        happened,
        advice,
        limit: None,
    }
}

impl Row {
    const fn limited(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }
}

#[rustfmt::skip] // Two lines a row.
impl Refusal {
    fn row(self) -> Row {
        match self {
            Self::InvalidRequest => row(InvalidArgument, "INVALID_REQUEST", NotSent, INFO, No,
                "The request is invalid", Do("Correct it and send it again")),
            Self::Unimplemented => row(Unimplemented, "UNIMPLEMENTED", NotSent, INFO, No,
                "The gateway does not serve this method or encoding", Do("Compare the call with the proto")),
            Self::CallerUnauthenticated => row(Unauthenticated, "CALLER_UNAUTHENTICATED", NotSent, INFO, No,
                "The caller could not be identified", Do("Send valid credentials")),
            Self::CallerNotAllowed => row(PermissionDenied, "CALLER_NOT_ALLOWED", NotSent, INFO, No,
                "This caller is not allowed to make this call", Do("Ask the gateway's operators for permission")),
            Self::CallerQuotaSpent => row(ResourceExhausted, "CALLER_QUOTA_EXHAUSTED", NotSent, INFO, NotByPolicy(HOUR),
                "This caller has used up its share of the daily quota", Do("Try again when the quota is renewed"))
                .limited(Limit::Caller),
            Self::RequestTooLarge => row(ResourceExhausted, "REQUEST_TOO_LARGE", NotSent, INFO, No,
                "The request message is larger than the gateway accepts", Do("Send a smaller one")),
            Self::Overloaded => row(Unavailable, "GATEWAY_OVERLOADED", NotSent, WARN, After(SOON),
                "The gateway has reached its limit of concurrent calls", Do("Try again after a pause")),
            Self::Draining => row(Unavailable, "GATEWAY_DRAINING", NotSent, INFO, No,
                "This instance of the gateway is shutting down", Do("Send the call to another instance")),
            Self::CircuitOpen => row(Unavailable, "UPSTREAM_CIRCUIT_OPEN", NotSent, WARN, After(SOON),
                "OnboardFlow has been failing, and the gateway has stopped calling it for now",
                Do("Try again after a pause")),
            Self::Maintenance => row(Unavailable, "UPSTREAM_MAINTENANCE", NotSent, WARN, NotByPolicy(MINUTE),
                "OnboardFlow is offline for maintenance", Do("Try again later")),
            Self::QuotaSpent => row(ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED", NotSent, WARN, NotByPolicy(HOUR),
                "OnboardFlow's limit of calls is reached", Do("Try again when the limit is renewed"))
                .limited(Limit::Account),
            Self::RequestIdReused => row(InvalidArgument, "REQUEST_ID_REUSED", NotSent, INFO, No,
                "The request_id was used before, for a different request", Do("Use a new request_id for each write")),
            Self::LedgerUnavailable => row(Unavailable, "LEDGER_UNAVAILABLE", NotSent, ERROR, After(SOON),
                "The gateway cannot reach its ledger, which every call with a request_id needs",
                Do("Try again after a pause, with the same request_id")),
            Self::LedgerOff => row(FailedPrecondition, "LEDGER_OFF", NotSent, INFO, No,
                "The gateway keeps no ledger and cannot honour a request_id",
                Do("Send the call without a request_id, or ask the gateway's operators for a ledger")),
        }
    }
}

#[rustfmt::skip] // Two lines a row.
impl Earlier {
    fn row(self) -> Row {
        match self {
            Self::InProgress => row(Aborted, "REQUEST_IN_PROGRESS", Unknown, INFO, After(SOON),
                "An earlier call with this request_id is still in progress",
                Do("Send the call again with the same request_id to learn the outcome")),
            Self::Unknown => row(FailedPrecondition, "WRITE_UNKNOWN", Unknown, WARN, No,
                "An earlier call with this request_id was sent, and its outcome was lost; this one was not sent",
                Do("Only OnboardFlow's own pages show the outcome: check there, and ask the gateway's \
                    operators to settle the write")),
            Self::Settled => row(AlreadyExists, "WRITE_SETTLED", Applied, INFO, No,
                "The gateway's operators found that an earlier call with this request_id was applied",
                Do("Do not send it again")),
        }
    }
}

#[rustfmt::skip] // Two lines a row.
impl Loss {
    fn row(self) -> Row {
        match self {
            Self::Unreachable => row(Unavailable, "UPSTREAM_UNREACHABLE", NotSent, WARN, After(SOON),
                "OnboardFlow could not be reached", Do("Try again after a pause")),
            Self::DeadlineExceeded(Sent::No) => row(DeadlineExceeded, "DEADLINE_EXCEEDED", NotSent, WARN, No,
                "The deadline passed before the call was sent", Do("Try again with a later deadline")),
            Self::DeadlineExceeded(Sent::Maybe) => row(DeadlineExceeded, "DEADLINE_EXCEEDED", Unknown, WARN, No,
                "The deadline passed before OnboardFlow answered", ByEffect),
            // gRPC clients repeat UNAVAILABLE by themselves: a create whose fate is unknown never gets it.
            Self::Connection(Effect::Creates) => row(Code::Unknown, "UPSTREAM_CONNECTION_LOST", Unknown, WARN, No,
                "The connection to OnboardFlow was lost before it answered", ByEffect),
            Self::Connection(Effect::Updates | Effect::Deletes) =>
                row(Unavailable, "UPSTREAM_CONNECTION_LOST", Unknown, WARN, No,
                "The connection to OnboardFlow was lost before it answered", ByEffect),
            Self::Cancelled(sent) => row(Cancelled, "CANCELLED", sent.write(), INFO, No,
                "The caller left before the call was over", ByEffect),
            Self::Internal(sent) => row(Internal, "GATEWAY_FAILED", sent.write(), ERROR, No,
                "The gateway failed because of a bug", Do("Report the request id to the gateway's operators")),
        }
    }
}

#[rustfmt::skip] // Two lines a row.
impl Answer {
    fn row(self) -> Row {
        use KeyHolder::{Caller, Gateway};

        match self {
            Self::BadRequest => row(InvalidArgument, "UPSTREAM_REJECTED", Rejected, INFO, No,
                "OnboardFlow rejected the request", Do("Correct it and send it again")),
            Self::PreconditionFailed => row(FailedPrecondition, "UPSTREAM_REJECTED", Rejected, INFO, No,
                "OnboardFlow rejected the request, because the state of its records does not allow it",
                Do("Change that first, then send the request again")),
            Self::RefusedInBody => row(FailedPrecondition, "UPSTREAM_REJECTED", Rejected, INFO, No,
                "OnboardFlow answered that the write did not succeed", Do("Remove the cause and send the request again")),
            // Our key failed, not the caller's: UNAUTHENTICATED would send the wrong team searching.
            Self::KeyRefused(Gateway) | Self::KeyForbidden(Gateway) =>
                row(Internal, "UPSTREAM_CREDENTIALS_REJECTED", Rejected, ERROR, No,
                "OnboardFlow rejected the gateway's API key", Do("Ask the gateway's operators to replace it")),
            Self::KeyRefused(Caller) => row(Unauthenticated, "UPSTREAM_CREDENTIALS_REJECTED", Rejected, INFO, No,
                "OnboardFlow rejected the API key in your authorization metadata", Do("Use another key")),
            Self::KeyForbidden(Caller) => row(PermissionDenied, "UPSTREAM_CREDENTIALS_REJECTED", Rejected, INFO, No,
                "OnboardFlow rejected the API key in your authorization metadata", Do("Use another key")),
            Self::NotFound(Effect::Creates | Effect::Updates) => row(NotFound, "UPSTREAM_NOT_FOUND", Rejected, INFO, No,
                "OnboardFlow does not know this record or site", Do("Check the ids")),
            Self::NotFound(Effect::Deletes) => row(NotFound, "UPSTREAM_NOT_FOUND", Rejected, INFO, No,
                "OnboardFlow does not know this record or site",
                Do("Check the ids, unless the record was deleted before")),
            Self::Timeout => row(DeadlineExceeded, "UPSTREAM_TIMEOUT", Unknown, WARN, No,
                "OnboardFlow timed out", ByEffect),
            Self::Conflict(Effect::Creates) => row(AlreadyExists, "UPSTREAM_CONFLICT", Rejected, INFO, No,
                "OnboardFlow already has this record", Do("Update it instead")),
            Self::Conflict(Effect::Updates | Effect::Deletes) => row(Aborted, "UPSTREAM_CONFLICT", Rejected, INFO, No,
                "The call conflicts with another change of this record", Do("Try again after a pause")),
            Self::TooManyRequests => row(ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED", Rejected, WARN, NotByPolicy(HOUR),
                "OnboardFlow's limit of calls is reached", Do("Try again when the limit is renewed"))
                .limited(Limit::Account),
            Self::Failed | Self::BadGateway(Effect::Creates) => row(Code::Unknown, "UPSTREAM_FAILED", Unknown, WARN, No,
                "OnboardFlow failed", ByEffect),
            Self::BadGateway(Effect::Updates | Effect::Deletes) => row(Unavailable, "UPSTREAM_FAILED", Unknown, WARN, No,
                "OnboardFlow failed", ByEffect),
            Self::NotImplemented => row(Unimplemented, "UPSTREAM_FAILED", Rejected, ERROR, No,
                "OnboardFlow does not implement this call", Do("Report it to the gateway's operators")),
            Self::Maintenance => row(Unavailable, "UPSTREAM_MAINTENANCE", Rejected, WARN, NotByPolicy(MINUTE),
                "OnboardFlow is offline for maintenance", Do("Try again later")),
            Self::ContractBroken => row(Internal, "UPSTREAM_CONTRACT_BROKEN", Rejected, ERROR, No,
                "OnboardFlow's answer does not fit its documented API", Do("Report it to the gateway's operators")),
            Self::Unreadable { applied: true } => row(Internal, "UPSTREAM_REPLY_UNREADABLE", Applied, ERROR, No,
                "OnboardFlow's reply could not be read", Do("Do not send the call again")),
            Self::Unreadable { applied: false } => row(Internal, "UPSTREAM_REPLY_UNREADABLE", Unknown, ERROR, No,
                "OnboardFlow's reply could not be read", ByEffect),
        }
    }
}
