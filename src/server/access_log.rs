//! One line for each call that failed, at the level that its cause deserves. Nothing that a caller
//! or OnboardFlow wrote is in it, but for the request id.

use http::StatusCode;
use tracing::{Level, event};

use crate::{
    context::Context,
    error::{Answer, Error, Kind, Loss, Refusal},
    rest::KeyHolder,
};

/// Logs a failed call.
pub(super) fn failed(method: &str, error: &Error, context: &Context) {
    let row = error.kind.row();
    macro_rules! log {
        ($level:ident) => {
            event!(
                Level::$level,
                method = method.trim_start_matches('/'),
                code = ?row.code,
                reason = row.reason,
                write = error.write().as_str(),
                http_status = error.http_status.as_ref().map(StatusCode::as_u16),
                request_id = context.request_id(),
                caller = context.caller.as_ref().map(|caller| caller.name.as_str()),
                "{error}",
            )
        };
    }
    match level(error.kind) {
        Level::ERROR => log!(ERROR),
        Level::WARN => log!(WARN),
        _ => log!(INFO),
    }
}

/// Error: an operator has to act. Warn: something outside is failing. Info: the caller's business.
fn level(kind: Kind) -> Level {
    match kind {
        Kind::Refused(refusal) => match refusal {
            Refusal::InvalidRequest
            | Refusal::Unimplemented
            | Refusal::CallerUnauthenticated
            | Refusal::CallerNotAllowed
            | Refusal::RequestTooLarge
            | Refusal::Draining => Level::INFO,
            Refusal::Overloaded | Refusal::CircuitOpen | Refusal::QuotaSpent => Level::WARN,
        },
        Kind::Lost(loss) => match loss {
            Loss::Unreachable | Loss::DeadlineExceeded(_) | Loss::Connection(_) => Level::WARN,
            Loss::Internal(_) => Level::ERROR,
        },
        Kind::Answered(answer) => match answer {
            Answer::BadRequest
            | Answer::PreconditionFailed
            | Answer::RefusedInBody
            | Answer::KeyRefused(KeyHolder::Caller)
            | Answer::KeyForbidden(KeyHolder::Caller)
            | Answer::NotFound
            | Answer::Conflict(_) => Level::INFO,
            Answer::Timeout
            | Answer::TooManyRequests
            | Answer::Failed
            | Answer::BadGateway(_)
            | Answer::Maintenance => Level::WARN,
            Answer::KeyRefused(KeyHolder::Gateway)
            | Answer::KeyForbidden(KeyHolder::Gateway)
            | Answer::NotImplemented
            | Answer::ContractBroken
            | Answer::Unreadable { .. } => Level::ERROR,
        },
    }
}
