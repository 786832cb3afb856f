//! What a caller reads: for each kind of failure one sentence that says what happened and what to
//! do about it. Always the gateway's own words, so that nothing can leak through them.

use super::kind::{Answer, Kind, Loss, Refusal, Sent};
use crate::rest::{Effect, KeyHolder};

impl Kind {
    /// One sentence for the caller.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.advice(),
            Self::Lost(loss) => loss.advice(),
            Self::Answered(answer) => answer.advice(),
        }
    }
}

impl Refusal {
    fn advice(self) -> &'static str {
        match self {
            Self::InvalidRequest => "The request is invalid; correct it and send it again",
            Self::Unimplemented => {
                "The gateway does not serve this method or encoding; compare the call with the proto"
            }
            Self::CallerUnauthenticated => {
                "The caller could not be identified; present valid credentials"
            }
            Self::CallerNotAllowed => {
                "This caller may not call the gateway; ask the gateway's operators"
            }
            Self::RequestTooLarge => {
                "The request message is larger than the gateway accepts; send less in it"
            }
            Self::Overloaded => "The gateway is at its limit of calls; try again after a pause",
            Self::Draining => "This instance is shutting down; send the call to another one",
            Self::CircuitOpen => {
                "OnboardFlow has been failing, so nothing was sent; try again after a pause"
            }
            Self::QuotaSpent => {
                "The daily quota of OnboardFlow calls is spent, so nothing was sent; \
                 try again once it is renewed"
            }
        }
    }
}

impl Loss {
    fn advice(self) -> &'static str {
        match self {
            Self::Unreachable => {
                "OnboardFlow could not be reached, so nothing was sent; try again after a pause"
            }
            Self::DeadlineExceeded(Sent::No) => {
                "The deadline passed before anything was sent; it is safe to try again"
            }
            Self::DeadlineExceeded(Sent::Maybe) => {
                "The deadline passed before OnboardFlow answered; the write may have been applied, so \
                 check before you send a create again"
            }
            Self::Connection(Effect::Creates) => {
                "The connection to OnboardFlow was lost before it answered; the customer may have \
                 been created, so check before you send it again"
            }
            Self::Connection(Effect::Updates) => {
                "The connection to OnboardFlow was lost before it answered; the update is safe to \
                 send again"
            }
            Self::Internal(_) => {
                "The gateway failed on this call; report the request id to its operators"
            }
        }
    }
}

impl Answer {
    fn advice(self) -> &'static str {
        match self {
            Self::BadRequest => "OnboardFlow refused the request; correct it",
            Self::PreconditionFailed => {
                "OnboardFlow refused the request, as the state of its records does not allow it; \
                 mend that first"
            }
            Self::RefusedInBody => {
                "OnboardFlow answered that the write did not succeed; mend the cause and send it \
                 again"
            }
            Self::KeyRefused(KeyHolder::Gateway) | Self::KeyForbidden(KeyHolder::Gateway) => {
                "OnboardFlow refused the gateway's API key, which the gateway's operators have to \
                 replace"
            }
            Self::KeyRefused(KeyHolder::Caller) | Self::KeyForbidden(KeyHolder::Caller) => {
                "OnboardFlow refused the API key in your authorization metadata; use another"
            }
            Self::NotFound => "OnboardFlow does not know this record or site; check the ids",
            Self::Conflict(Effect::Creates) => {
                "OnboardFlow has this record already; update it instead"
            }
            Self::Conflict(Effect::Updates) => {
                "The update conflicts with another change; look at the record and try again"
            }
            Self::Timeout => {
                "OnboardFlow gave up waiting; the write may have been applied, so check before you \
                 send a create again"
            }
            Self::TooManyRequests => {
                "OnboardFlow's daily quota of calls is spent; try again once it is renewed"
            }
            Self::Failed | Self::BadGateway(Effect::Creates) => {
                "OnboardFlow failed; the write may have been applied, so check before you send a \
                 create again"
            }
            Self::BadGateway(Effect::Updates) => {
                "OnboardFlow failed; the update may have been applied, and is safe to send again"
            }
            Self::NotImplemented => {
                "OnboardFlow does not implement this call; tell the gateway's operators"
            }
            Self::Maintenance => "OnboardFlow is offline for maintenance; try again later",
            Self::ContractBroken => {
                "OnboardFlow answered as its API does not allow; tell the gateway's operators"
            }
            Self::Unreadable { applied: true } => {
                "OnboardFlow took the write, but its reply could not be read; do not send it again"
            }
            Self::Unreadable { applied: false } => {
                "OnboardFlow's reply could not be read; the write may have been applied, so check \
                 before you send a create again"
            }
        }
    }
}
