//! The table of failures: for each thing that can happen, the gRPC code, the reason and the fate
//! of the write. This is the one place where they are decided.
//!
//! Kinds are named by stage: the gateway's own [`Refusal`] before anything is sent, a [`Loss`] on
//! the way, and OnboardFlow's [`Answer`].

use std::time::Duration;

use http::StatusCode;
use tonic::Code;

use super::write::{Sent, Write};
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
}

const fn row(code: Code, reason: &'static str, write: Write) -> Row {
    Row {
        code,
        reason,
        write,
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The gateway refused the call; nothing was sent.
    Refused(Refusal),
    /// The call was lost on the way.
    Lost(Loss),
    /// OnboardFlow answered, and not with a success.
    Answered(Answer),
}

impl Kind {
    /// The row of the table.
    #[must_use]
    pub fn row(self) -> Row {
        match self {
            Self::Refused(refusal) => refusal.row(),
            Self::Lost(loss) => loss.row(),
            Self::Answered(answer) => answer.row(),
        }
    }

    /// Every kind, for what has to be known before it happens.
    pub fn all() -> impl Iterator<Item = Self> {
        let refused = Refusal::ALL.into_iter().map(Self::Refused);
        let lost = Loss::ALL.into_iter().map(Self::Lost);
        refused
            .chain(lost)
            .chain(Answer::ALL.into_iter().map(Self::Answered))
    }

    /// Whether OnboardFlow's limit of calls per day is what stands in the way.
    #[must_use]
    pub fn is_quota(self) -> bool {
        match self {
            Self::Refused(refusal) => refusal == Refusal::QuotaSpent,
            Self::Lost(_) => false,
            Self::Answered(answer) => answer == Answer::TooManyRequests,
        }
    }

    /// Whether a client must not repeat the call by itself: a quota stays spent for hours, and a
    /// maintenance outlasts any retry policy.
    #[must_use]
    pub fn forbids_retries(self) -> bool {
        self.is_quota() || self == Self::Answered(Answer::Maintenance)
    }

    /// What to wait before another try where nobody named a time, or `None` where waiting does not
    /// help.
    #[must_use]
    pub fn default_retry_delay(self) -> Option<Duration> {
        const SOON: Duration = Duration::from_secs(1);
        const MINUTE: Duration = Duration::from_secs(60);
        // The quota is per day: an hour is often enough to notice, and seldom enough to cost little.
        const HOUR: Duration = Duration::from_secs(3600);

        match self {
            Self::Refused(Refusal::Overloaded | Refusal::CircuitOpen)
            | Self::Lost(Loss::Unreachable) => Some(SOON),
            Self::Answered(Answer::Maintenance) => Some(MINUTE),
            Self::Refused(Refusal::QuotaSpent) | Self::Answered(Answer::TooManyRequests) => {
                Some(HOUR)
            }
            Self::Refused(_) | Self::Lost(_) | Self::Answered(_) => None,
        }
    }
}

impl From<Refusal> for Kind {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Loss> for Kind {
    fn from(loss: Loss) -> Self {
        Self::Lost(loss)
    }
}

impl From<Answer> for Kind {
    fn from(answer: Answer) -> Self {
        Self::Answered(answer)
    }
}

/// Why the gateway sent nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request breaks a rule of the contract.
    InvalidRequest,
    /// Unknown method, or an encoding that the gateway does not speak.
    Unimplemented,
    /// The caller could not be identified.
    CallerUnauthenticated,
    /// The caller is known, and may not call.
    CallerNotAllowed,
    /// The request message is over `--max-request-bytes`.
    RequestTooLarge,
    /// `--max-in-flight` calls are under way.
    Overloaded,
    /// The gateway is shutting down.
    Draining,
    /// The circuit breaker is open.
    CircuitOpen,
    /// The daily quota is known to be spent.
    QuotaSpent,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::InvalidRequest,
        Self::Unimplemented,
        Self::CallerUnauthenticated,
        Self::CallerNotAllowed,
        Self::RequestTooLarge,
        Self::Overloaded,
        Self::Draining,
        Self::CircuitOpen,
        Self::QuotaSpent,
    ];

    fn row(self) -> Row {
        let (code, reason) = match self {
            Self::InvalidRequest => (Code::InvalidArgument, "INVALID_REQUEST"),
            Self::Unimplemented => (Code::Unimplemented, "UNIMPLEMENTED"),
            Self::CallerUnauthenticated => (Code::Unauthenticated, "CALLER_UNAUTHENTICATED"),
            Self::CallerNotAllowed => (Code::PermissionDenied, "CALLER_NOT_ALLOWED"),
            Self::RequestTooLarge => (Code::ResourceExhausted, "REQUEST_TOO_LARGE"),
            Self::Overloaded => (Code::Unavailable, "GATEWAY_OVERLOADED"),
            Self::Draining => (Code::Unavailable, "GATEWAY_DRAINING"),
            Self::CircuitOpen => (Code::Unavailable, "UPSTREAM_CIRCUIT_OPEN"),
            Self::QuotaSpent => (Code::ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED"),
        };
        row(code, reason, Write::NotSent)
    }
}

/// How a call was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// No connection: DNS, TCP or TLS.
    Unreachable,
    /// The call's deadline passed.
    DeadlineExceeded(Sent),
    /// The connection failed after the request had begun to leave.
    Connection(Effect),
    /// The gateway itself failed: a bug.
    Internal(Sent),
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Unreachable,
        Self::DeadlineExceeded(Sent::No),
        Self::DeadlineExceeded(Sent::Maybe),
        Self::Connection(Effect::Creates),
        Self::Connection(Effect::Updates),
        Self::Internal(Sent::No),
        Self::Internal(Sent::Maybe),
    ];

    fn row(self) -> Row {
        match self {
            Self::Unreachable => row(Code::Unavailable, "UPSTREAM_UNREACHABLE", Write::NotSent),
            Self::DeadlineExceeded(sent) => {
                row(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", sent.write())
            }
            // gRPC clients repeat UNAVAILABLE by themselves: a create whose fate is
            // unknown never gets it.
            Self::Connection(Effect::Creates) => {
                row(Code::Unknown, "UPSTREAM_CONNECTION_LOST", Write::Unknown)
            }
            Self::Connection(Effect::Updates | Effect::Deletes) => row(
                Code::Unavailable,
                "UPSTREAM_CONNECTION_LOST",
                Write::Unknown,
            ),
            Self::Internal(sent) => row(Code::Internal, "GATEWAY_FAILED", sent.write()),
        }
    }
}

/// What OnboardFlow answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 400, 422.
    BadRequest,
    /// 412.
    PreconditionFailed,
    /// 2xx whose body does not say `success: true`.
    RefusedInBody,
    /// 401: the key was not accepted.
    KeyRefused(KeyHolder),
    /// 403: the key does not allow the call.
    KeyForbidden(KeyHolder),
    /// 404.
    NotFound(Effect),
    /// 409.
    Conflict(Effect),
    /// 408, 504.
    Timeout,
    /// 429.
    TooManyRequests,
    /// 500, and the 5xx without a row of their own.
    Failed,
    /// 501.
    NotImplemented,
    /// 502.
    BadGateway(Effect),
    /// 503.
    Maintenance,
    /// 3xx, 405, 406, 415, and the 4xx without a row of their own.
    ContractBroken,
    /// 2xx that could not be read.
    Unreadable {
        /// Whether `success: true` could be read all the same.
        applied: bool,
    },
}

impl Answer {
    /// One for each row of the table: a deletion has an update's.
    pub const ALL: [Self; 19] = [
        Self::BadRequest,
        Self::PreconditionFailed,
        Self::RefusedInBody,
        Self::KeyRefused(KeyHolder::Gateway),
        Self::KeyForbidden(KeyHolder::Gateway),
        Self::KeyRefused(KeyHolder::Caller),
        Self::KeyForbidden(KeyHolder::Caller),
        Self::NotFound(Effect::Updates),
        Self::Conflict(Effect::Creates),
        Self::Conflict(Effect::Updates),
        Self::Timeout,
        Self::TooManyRequests,
        Self::Failed,
        Self::NotImplemented,
        Self::BadGateway(Effect::Updates),
        Self::Maintenance,
        Self::ContractBroken,
        Self::Unreadable { applied: true },
        Self::Unreadable { applied: false },
    ];

    /// What an HTTP status says, or `None` for a 2xx, where the body decides.
    #[must_use]
    pub fn of_status(status: StatusCode, effect: Effect, key_holder: KeyHolder) -> Option<Self> {
        Some(match status.as_u16() {
            200..=299 => return None,
            400 | 422 => Self::BadRequest,
            401 => Self::KeyRefused(key_holder),
            403 => Self::KeyForbidden(key_holder),
            404 => Self::NotFound(effect),
            408 | 504 => Self::Timeout,
            409 => Self::Conflict(effect),
            412 => Self::PreconditionFailed,
            429 => Self::TooManyRequests,
            501 => Self::NotImplemented,
            502 => Self::BadGateway(effect),
            503 => Self::Maintenance,
            500.. => Self::Failed,
            ..=499 => Self::ContractBroken,
        })
    }

    fn row(self) -> Row {
        use KeyHolder::{Caller, Gateway};
        use Write::{Applied, Rejected, Unknown};

        match self {
            Self::BadRequest => row(Code::InvalidArgument, "UPSTREAM_REJECTED", Rejected),
            Self::PreconditionFailed | Self::RefusedInBody => {
                row(Code::FailedPrecondition, "UPSTREAM_REJECTED", Rejected)
            }
            // Our key failed, not the caller's: UNAUTHENTICATED would send the wrong team searching.
            Self::KeyRefused(Gateway) | Self::KeyForbidden(Gateway) => {
                row(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED", Rejected)
            }
            Self::KeyRefused(Caller) => row(
                Code::Unauthenticated,
                "UPSTREAM_CREDENTIALS_REJECTED",
                Rejected,
            ),
            Self::KeyForbidden(Caller) => row(
                Code::PermissionDenied,
                "UPSTREAM_CREDENTIALS_REJECTED",
                Rejected,
            ),
            Self::NotFound(_) => row(Code::NotFound, "UPSTREAM_NOT_FOUND", Rejected),
            Self::Conflict(effect) => {
                let is_there = effect == Effect::Creates;
                let code = if is_there {
                    Code::AlreadyExists
                } else {
                    Code::Aborted
                };
                row(code, "UPSTREAM_CONFLICT", Rejected)
            }
            Self::Timeout => row(Code::DeadlineExceeded, "UPSTREAM_TIMEOUT", Unknown),
            Self::TooManyRequests => row(
                Code::ResourceExhausted,
                "UPSTREAM_QUOTA_EXHAUSTED",
                Rejected,
            ),
            Self::NotImplemented => row(Code::Unimplemented, "UPSTREAM_FAILED", Rejected),
            Self::Failed | Self::BadGateway(Effect::Creates) => {
                row(Code::Unknown, "UPSTREAM_FAILED", Unknown)
            }
            Self::BadGateway(Effect::Updates | Effect::Deletes) => {
                row(Code::Unavailable, "UPSTREAM_FAILED", Unknown)
            }
            Self::Maintenance => row(Code::Unavailable, "UPSTREAM_MAINTENANCE", Rejected),
            Self::ContractBroken => row(Code::Internal, "UPSTREAM_CONTRACT_BROKEN", Rejected),
            Self::Unreadable { applied: true } => {
                row(Code::Internal, "UPSTREAM_REPLY_UNREADABLE", Applied)
            }
            Self::Unreadable { applied: false } => {
                row(Code::Internal, "UPSTREAM_REPLY_UNREADABLE", Unknown)
            }
        }
    }
}
