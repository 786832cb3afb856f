//! What can go wrong with a call. The table of failures says what follows from it.
//!
//! Kinds are named by stage: the gateway's own [`Refusal`] before anything is sent, what the ledger
//! knows of an [`Earlier`] call, a [`Loss`] on the way, and OnboardFlow's [`Answer`].

use http::StatusCode;

use super::write::Sent;
use crate::rest::{Effect, KeyHolder};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The gateway refused the call; nothing was sent.
    Refused(Refusal),
    /// An earlier call with the same `request_id` stands in the way; nothing was sent.
    Earlier(Earlier),
    /// The call was lost on the way.
    Lost(Loss),
    /// OnboardFlow answered, and not with a success.
    Answered(Answer),
}

impl Kind {
    /// Every kind, for what has to be known before it happens.
    pub fn all() -> impl Iterator<Item = Self> {
        let refused = Refusal::ALL.into_iter().map(Self::Refused);
        refused
            .chain(Earlier::ALL.into_iter().map(Self::Earlier))
            .chain(Loss::ALL.into_iter().map(Self::Lost))
            .chain(Answer::ALL.into_iter().map(Self::Answered))
    }
}

impl From<Refusal> for Kind {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Earlier> for Kind {
    fn from(earlier: Earlier) -> Self {
        Self::Earlier(earlier)
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
    /// The caller is known, and may not make this call.
    CallerNotAllowed,
    /// The caller has used up its share of the daily quota.
    CallerQuotaSpent,
    /// The request message is over `--max-request-bytes`.
    RequestTooLarge,
    /// `--max-in-flight` calls are under way.
    Overloaded,
    /// The gateway is shutting down.
    Draining,
    /// The circuit breaker is open.
    CircuitOpen,
    /// OnboardFlow said that it is offline, and for how long.
    Maintenance,
    /// The daily quota is known to be spent.
    QuotaSpent,
    /// The `request_id` stands for another request.
    RequestIdReused,
    /// The call has a `request_id`, and the ledger can't be reached.
    LedgerUnavailable,
    /// The call has a `request_id`, and the gateway keeps no ledger.
    LedgerOff,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::InvalidRequest,
        Self::Unimplemented,
        Self::CallerUnauthenticated,
        Self::CallerNotAllowed,
        Self::CallerQuotaSpent,
        Self::RequestTooLarge,
        Self::Overloaded,
        Self::Draining,
        Self::CircuitOpen,
        Self::Maintenance,
        Self::QuotaSpent,
        Self::RequestIdReused,
        Self::LedgerUnavailable,
        Self::LedgerOff,
    ];
}

/// What the ledger knows of an earlier call with the same `request_id`, where it keeps this one from
/// being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// It is under way, and this call's deadline came before its outcome.
    InProgress,
    /// It was sent, and its fate is not known.
    Unknown,
    /// A person found that it was applied.
    Settled,
}

impl Earlier {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::InProgress, Self::Unknown, Self::Settled];
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
    /// The caller left before the answer came. It is told nothing: this is for log and metrics.
    Cancelled(Sent),
    /// The gateway itself failed: a bug.
    Internal(Sent),
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Unreachable,
        Self::DeadlineExceeded(Sent::No),
        Self::DeadlineExceeded(Sent::Maybe),
        Self::Connection(Effect::Creates),
        Self::Connection(Effect::Updates),
        Self::Cancelled(Sent::No),
        Self::Cancelled(Sent::Maybe),
        Self::Internal(Sent::No),
        Self::Internal(Sent::Maybe),
    ];
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
}
