//! What a caller reads: for each kind of failure one sentence that says what happened and what to
//! do about it. Always the gateway's own words, so that nothing can leak through them.

use std::borrow::Cow;

use super::{
    kind::{Answer, Kind, Loss, Refusal},
    write::Sent,
};
use crate::rest::{Effect, Intent, KeyHolder};

/// What is to be said of one kind of failure.
enum Advice {
    /// The whole sentence.
    Whole(&'static str),
    /// What happened. The rest is about a write of unknown fate, and so the operation's to say.
    UnknownFate(&'static str),
}

/// What became of a write of unknown fate, and what to do about it.
fn unknown_fate(intent: Option<Intent>) -> Cow<'static, str> {
    let Some(Intent { effect, may_have }) = intent else {
        return "the write may have been applied".into();
    };
    let then = match effect {
        Effect::Creates => "check in OnboardFlow's own pages before you send the call again",
        Effect::Updates => {
            "sending the call again leaves the same record, but records another event and counts \
             against the daily quota"
        }
        Effect::Deletes => {
            "sending the call again does no harm, but counts against the daily quota"
        }
    };
    format!("{may_have}; {then}").into()
}

impl Kind {
    /// One sentence for the caller of an operation with this intent.
    #[must_use]
    pub fn advice(self, intent: Option<Intent>) -> Cow<'static, str> {
        let advice = match self {
            Self::Refused(refusal) => Advice::Whole(refusal.advice()),
            Self::Lost(loss) => loss.advice(),
            Self::Answered(answer) => answer.advice(),
        };
        match advice {
            Advice::Whole(sentence) => sentence.into(),
            Advice::UnknownFate(happened) => format!("{happened}: {}", unknown_fate(intent)).into(),
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
    fn advice(self) -> Advice {
        use Advice::{UnknownFate, Whole};

        match self {
            Self::Unreachable => Whole(
                "OnboardFlow could not be reached, so nothing was sent; try again after a pause",
            ),
            Self::DeadlineExceeded(Sent::No) => {
                Whole("The deadline passed before anything was sent; it is safe to try again")
            }
            Self::DeadlineExceeded(Sent::Maybe) => {
                UnknownFate("The deadline passed before OnboardFlow answered")
            }
            Self::Connection(_) => {
                UnknownFate("The connection to OnboardFlow was lost before it answered")
            }
            Self::Internal(_) => {
                Whole("The gateway failed on this call; report the request id to its operators")
            }
        }
    }
}

impl Answer {
    fn advice(self) -> Advice {
        use Advice::{UnknownFate, Whole};

        Whole(match self {
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
            Self::NotFound(Effect::Creates | Effect::Updates) => {
                "OnboardFlow does not know this record or site; check the ids"
            }
            Self::NotFound(Effect::Deletes) => {
                "OnboardFlow does not know this record or site; it may have been deleted already, \
                 else check the ids"
            }
            Self::Conflict(Effect::Creates) => {
                "OnboardFlow has this record already; update it instead"
            }
            Self::Conflict(Effect::Updates | Effect::Deletes) => {
                "The call conflicts with another change of this record; try again after a pause"
            }
            Self::Timeout => return UnknownFate("OnboardFlow gave up waiting"),
            Self::TooManyRequests => {
                "OnboardFlow's daily quota of calls is spent; try again once it is renewed"
            }
            Self::Failed | Self::BadGateway(_) => return UnknownFate("OnboardFlow failed"),
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
                return UnknownFate("OnboardFlow's reply could not be read");
            }
        })
    }
}
