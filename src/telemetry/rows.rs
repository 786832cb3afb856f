//! The rows of the table of failures that a method's calls can end in. Their series stand at zero from the
//! start, so that a rate is right from the first failure on.
//!
//! Rows that only a ledger, a callers' file or callers' own keys can lead to are not among them: no alert
//! needs them, and their series come with the first such call.

use tonic::Code;

use crate::{
    error::{Answer, Earlier, Kind, Loss, Refusal, Write},
    rest::{Effect, KeyHolder},
};

/// What a caller is told of a failure, by which it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) code: Code,
    pub(super) reason: &'static str,
    pub(super) write: Write,
}

impl Told {
    pub(super) fn new(kind: Kind, write: Write) -> Self {
        let row = kind.row();
        Self {
            code: row.code,
            reason: row.reason,
            write,
        }
    }
}

/// Each row once.
pub(super) fn within_reach(effect: Effect) -> Vec<Told> {
    let mut rows = Vec::new();
    for kind in Kind::all().filter(|&kind| can_befall(kind, effect)) {
        let told = Told::new(kind, kind.row().write);
        // After an attempt that may have been taken, a refusal leaves the write unknown.
        let after_another = effect.may_repeat() && matches!(kind, Kind::Answered(_));
        let again = after_another.then(|| Told::new(kind, Write::Unknown));
        for told in [told].into_iter().chain(again) {
            if !rows.contains(&told) {
                rows.push(told);
            }
        }
    }
    rows
}

fn can_befall(kind: Kind, effect: Effect) -> bool {
    match kind {
        Kind::Refused(refusal) => needs_no_option(refusal),
        // Without a ledger, only creates are remembered.
        Kind::Earlier(Earlier::InProgress | Earlier::Unknown) => !effect.may_repeat(),
        Kind::Earlier(Earlier::Settled) => false,
        Kind::Lost(Loss::Connection(of))
        | Kind::Answered(Answer::Conflict(of) | Answer::BadGateway(of)) => {
            // The table has one row for updates and deletes.
            of.may_repeat() == effect.may_repeat()
        }
        Kind::Answered(Answer::KeyRefused(holder) | Answer::KeyForbidden(holder)) => {
            holder == KeyHolder::Gateway
        }
        Kind::Lost(
            Loss::Unreachable | Loss::DeadlineExceeded(_) | Loss::Cancelled(_) | Loss::Internal(_),
        )
        | Kind::Answered(
            Answer::BadRequest
            | Answer::PreconditionFailed
            | Answer::RefusedInBody
            | Answer::NotFound(_)
            | Answer::Timeout
            | Answer::TooManyRequests
            | Answer::Failed
            | Answer::NotImplemented
            | Answer::Maintenance
            | Answer::ContractBroken
            | Answer::Unreadable { .. },
        ) => true,
    }
}

fn needs_no_option(refusal: Refusal) -> bool {
    match refusal {
        Refusal::CallerQuotaSpent
        | Refusal::RequestIdReused
        | Refusal::LedgerUnavailable
        | Refusal::LedgerOff => false,
        Refusal::InvalidRequest
        | Refusal::Unimplemented
        | Refusal::CallerUnauthenticated
        | Refusal::CallerNotAllowed
        | Refusal::RequestTooLarge
        | Refusal::Overloaded
        | Refusal::Draining
        | Refusal::CircuitOpen
        | Refusal::Maintenance
        | Refusal::QuotaSpent => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_leaves_no_write_unknown() {
        for effect in [Effect::Creates, Effect::Updates, Effect::Deletes] {
            for told in within_reach(effect) {
                if told.reason.starts_with("GATEWAY_OVER") || told.reason == "INVALID_REQUEST" {
                    assert_eq!(told.write, Write::NotSent, "{told:?}");
                }
            }
        }
    }

    #[test]
    fn only_a_call_that_may_be_repeated_has_an_attempt_before_the_last() {
        let rejected_after_another = |effect| {
            let rows = within_reach(effect);
            let write = Write::Unknown;
            rows.contains(&Told::new(Answer::BadRequest.into(), write))
        };
        assert!(!rejected_after_another(Effect::Creates));
        assert!(rejected_after_another(Effect::Updates));
        assert!(rejected_after_another(Effect::Deletes));
    }
}
