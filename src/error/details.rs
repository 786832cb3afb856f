//! An [`Error`] as a [`Status`] with details, within the size that every gRPC client takes.
//!
//! Clients refuse trailers beyond 8 KiB (grpc-go, grpc-java and nginx among them), and with them
//! the whole answer. So the message is bounded in its percent-encoded form, and violations are
//! listed while there is room.

use std::{collections::HashMap, time::Duration};

use prost_types::Timestamp;
use tonic::{Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    Error, Row, Violation, Write,
    table::{Advice, Limit, Retry},
};
use crate::rest::{Effect, Guard, Purpose};

/// The `domain` of every `google.rpc.ErrorInfo` from this gateway.
pub const DOMAIN: &str = "onboardflow.com";

/// Bytes that `grpc-message` may have on the wire.
const MESSAGE_LIMIT: usize = 1024;
/// Bytes that all violations together may have before base64, which adds a third.
const VIOLATIONS_LIMIT: usize = 3 * 1024;
/// Bytes that one violation's path or description may have.
const VIOLATION_TEXT_LIMIT: usize = 256;

impl Error {
    /// The status that a caller gets for a call that meant to do this, as far as it got to mean
    /// anything.
    pub fn to_status(&self, request_id: &str, purpose: Option<Purpose>) -> Status {
        let row = self.kind.row();
        let message = message(self, purpose);
        let mut status = Status::with_error_details(row.code, message, details(self, request_id));
        match row.retry {
            Retry::No | Retry::After(_) => {}
            Retry::NotByPolicy(_) => {
                // Clients with a retry policy would repeat the call by themselves, each time at the cost
                // of one of the day's. Any time in its place makes some of them (grpc-java) wait for it.
                let never = MetadataValue::from_static("-1");
                status
                    .metadata_mut()
                    .insert("grpc-retry-pushback-ms", never);
            }
        }
        status
    }
}

/// What a caller should wait, where waiting helps.
fn retry_delay(error: &Error) -> Option<Duration> {
    let default = match error.kind.row().retry {
        Retry::No => return None,
        Retry::After(delay) | Retry::NotByPolicy(delay) => delay,
    };
    // `Retry-After: 0` names no time: at once is when OnboardFlow has just refused the call.
    let named = error.retry_after.filter(|delay| !delay.is_zero());
    Some(named.unwrap_or(default))
}

/// What happened, what became of the write, and what to do.
fn message(error: &Error, purpose: Option<Purpose>) -> String {
    let Row {
        happened,
        write,
        advice,
        ..
    } = error.kind.row();
    let advice = match advice {
        Advice::Do(advice) if error.write() == write => advice,
        Advice::Do(_) | Advice::ByEffect => by_effect(purpose),
    };
    let rest = format!("{} {advice}.", fate(error.write(), purpose));
    let Some(says) = &error.says else {
        return format!("{happened}. {rest}");
    };
    let around: usize = [happened, ": ", ". ", &rest]
        .iter()
        .flat_map(|text| text.chars())
        .map(encoded_len)
        .sum();
    let says = clip(says, MESSAGE_LIMIT.saturating_sub(around), encoded_len);
    let is_sentence = says.ends_with(['.', '!', '?']);
    let stop = if is_sentence { "" } else { "." };
    format!("{happened}: {says}{stop} {rest}")
}

/// What became of the write.
fn fate(write: Write, purpose: Option<Purpose>) -> String {
    match write {
        Write::NotSent => "Nothing was sent to OnboardFlow.".to_owned(),
        Write::Rejected => "The write was not applied.".to_owned(),
        Write::Applied => "The write was applied.".to_owned(),
        Write::Unknown => {
            let may_have = purpose.map_or("the write may have been applied", |purpose| {
                purpose.intent.may_have
            });
            format!("The outcome is not known: {may_have}.")
        }
    }
}

/// What to do about a write of unknown fate.
fn by_effect(purpose: Option<Purpose>) -> &'static str {
    match purpose.map(|purpose| (purpose.intent.effect, purpose.guard)) {
        None | Some((Effect::Creates, Guard::Caller)) => {
            "Do not send the call again before you have checked in OnboardFlow's own pages, the only \
             place that shows the outcome"
        }
        Some((Effect::Creates, Guard::Ledger)) => {
            "It is safe to send the call again with the same request_id: it is not recorded twice"
        }
        Some((Effect::Updates, Guard::Caller | Guard::Ledger)) => {
            "It is safe to send the call again: the record stays the same, but another event is \
             recorded, and the call counts against the daily quota"
        }
        Some((Effect::Deletes, Guard::Caller | Guard::Ledger)) => {
            "It is safe to send the call again, but it counts against the daily quota"
        }
    }
}

fn details(error: &Error, request_id: &str) -> ErrorDetails {
    let row = error.kind.row();
    let mut metadata = HashMap::from([
        ("write".to_owned(), error.write().as_str().to_owned()),
        ("request_id".to_owned(), request_id.to_owned()),
    ]);
    if let Some(status) = error.http_status {
        metadata.insert("http_status".to_owned(), status.as_str().to_owned());
    }
    if let Some(at) = error.first_attempt {
        metadata.insert("first_attempt".to_owned(), Timestamp::from(at).to_string());
    }
    let mut details = ErrorDetails::with_error_info(row.reason, DOMAIN, metadata);

    for Violation { field, description } in listed(&error.violations) {
        details.add_bad_request_violation(field, description);
    }
    if let Some(delay) = retry_delay(error) {
        details.set_retry_info(Some(delay));
    }
    if let Some(limit) = row.limit {
        let (subject, description) = match limit {
            Limit::Account => (
                "account",
                "OnboardFlow limits the calls of an account per day",
            ),
            Limit::Caller => (
                "caller",
                "The gateway's operators limit the calls of this caller per day",
            ),
        };
        details.add_quota_failure_violation(subject, description);
    }
    details
}

/// The violations that fit, each clipped; the last one says how many are left out.
fn listed(violations: &[Violation]) -> Vec<Violation> {
    let mut room = VIOLATIONS_LIMIT;
    let mut listed = Vec::with_capacity(violations.len().min(16));
    for violation in violations {
        let field = clip(&violation.field, VIOLATION_TEXT_LIMIT, char::len_utf8);
        let description = clip(&violation.description, VIOLATION_TEXT_LIMIT, char::len_utf8);
        // 16: the tags and lengths of the messages around the two.
        let size = field.len() + description.len() + 16;
        let Some(rest) = room.checked_sub(size) else {
            let left_out = violations.len() - listed.len();
            listed.push(Violation::new("", format!("and {left_out} more")));
            break;
        };
        room = rest;
        listed.push(Violation::new(field, description));
    }
    listed
}

/// `text` up to `limit` bytes as `len` counts a character's, with an ellipsis where it was cut.
fn clip(text: &str, limit: usize, len: fn(char) -> usize) -> String {
    const ELLIPSIS: &str = "...";
    if text.chars().map(len).sum::<usize>() <= limit {
        return text.to_owned();
    }
    let mut room = limit - ELLIPSIS.len();
    let fits = |c: &char| {
        let rest = room.checked_sub(len(*c));
        room = rest.unwrap_or(0);
        rest.is_some()
    };
    let mut clipped: String = text.chars().take_while(fits).collect();
    clipped.push_str(ELLIPSIS);
    clipped
}

/// Bytes that a character takes in `grpc-message`, which is percent-encoded.
fn encoded_len(c: char) -> usize {
    if c.is_ascii_graphic() && !"\"#<>`?{}%".contains(c) {
        1
    } else {
        3 * c.len_utf8()
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;
    use crate::{
        error::{Answer, Earlier, Kind, Refusal, Sent},
        rest::Intent,
    };

    fn wire_size(status: &Status) -> usize {
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum()
    }

    #[test]
    fn a_refused_request_names_its_fields() {
        let error = Error::invalid(vec![Violation::new("customer.email", "is required")]);
        let status = error.to_status("req-1", None);

        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("INVALID_REQUEST", DOMAIN)
        );
        assert_eq!(info.metadata["write"], "not_sent");
        assert_eq!(info.metadata["request_id"], "req-1");
        assert!(!info.metadata.contains_key("http_status"));
        let violation = &details.bad_request().unwrap().field_violations[0];
        assert_eq!(violation.field, "customer.email");
        assert_eq!(violation.description, "is required");
    }

    #[test]
    fn a_spent_quota_pushes_retries_back() {
        let mut error =
            Error::new(Answer::TooManyRequests).retry_after(Duration::from_secs(86_399));
        error.http_status = Some(StatusCode::TOO_MANY_REQUESTS);
        let status = error.to_status("req-1", None);

        let details = status.get_error_details();
        assert_eq!(
            details.retry_info().unwrap().retry_delay,
            Some(Duration::from_secs(86_399))
        );
        assert_eq!(details.quota_failure().unwrap().violations.len(), 1);
        assert_eq!(details.error_info().unwrap().metadata["http_status"], "429");
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        assert_eq!(pushback.unwrap(), "-1");
    }

    #[test]
    fn a_retry_after_of_zero_does_not_invite_a_retry_at_once() {
        let error = Error::new(Answer::TooManyRequests).retry_after(Duration::ZERO);
        let details = error.to_status("req-1", None).get_error_details();
        let delay = details.retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(Duration::from_secs(3600)));
    }

    #[test]
    fn a_write_of_unknown_fate_is_told_in_the_operations_words() {
        let told = |effect, may_have, guard| {
            let intent = Intent { effect, may_have };
            let purpose = Purpose { intent, guard };
            let error = Error::new(Answer::Timeout);
            error.to_status("req-1", Some(purpose)).message().to_owned()
        };
        let recorded = "the event may have been recorded";
        assert_eq!(
            told(Effect::Creates, recorded, Guard::Caller),
            "OnboardFlow timed out. The outcome is not known: the event may have been recorded. \
             Do not send the call again before you have checked in OnboardFlow's own pages, the only \
             place that shows the outcome."
        );
        assert_eq!(
            told(Effect::Creates, recorded, Guard::Ledger),
            "OnboardFlow timed out. The outcome is not known: the event may have been recorded. \
             It is safe to send the call again with the same request_id: it is not recorded twice."
        );
        assert_eq!(
            told(
                Effect::Deletes,
                "the customer may have been deleted",
                Guard::Ledger
            ),
            "OnboardFlow timed out. The outcome is not known: the customer may have been deleted. \
             It is safe to send the call again, but it counts against the daily quota."
        );
    }

    /// Its message said "nothing was sent" beside `write: unknown`.
    #[test]
    fn a_refusal_after_a_lost_attempt_does_not_say_that_nothing_was_sent() {
        let intent = Intent {
            effect: Effect::Updates,
            may_have: "the customer may have been updated",
        };
        let guard = Guard::Caller;
        let error = Error::new(Refusal::CircuitOpen).after(Sent::Maybe);
        let status = error.to_status("req-1", Some(Purpose { intent, guard }));
        let message = status.message();
        assert!(
            message.contains("the customer may have been updated"),
            "{message}"
        );
        assert!(!message.contains("Nothing was sent"), "{message}");
    }

    #[test]
    fn a_write_whose_outcome_was_lost_says_when_it_was_first_tried() {
        let mut error = Error::new(Earlier::Unknown);
        error.first_attempt = Some(std::time::UNIX_EPOCH + Duration::from_secs(1_583_020_800));
        let status = error.to_status("req-1", None);
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_error_details().error_info().unwrap().clone();
        assert_eq!(info.reason, "WRITE_UNKNOWN");
        assert_eq!(info.metadata["write"], "unknown");
        assert_eq!(info.metadata["first_attempt"], "2020-03-01T00:00:00Z");
    }

    #[test]
    fn every_message_ends_with_what_to_do_and_has_room_for_more() {
        for kind in Kind::all() {
            let error = Error::new(kind).saying("x".repeat(2000)).after(Sent::Maybe);
            let status = error.to_status("req-1", None);
            let message = status.message();
            assert!(
                message.ends_with('.') && message.contains("xxx... "),
                "{message}"
            );
            let said = message.chars().filter(|c| *c == 'x').count();
            assert!(said > 400, "{said}: {message}");
        }
    }

    #[test]
    fn an_overloaded_gateway_names_a_delay() {
        let status = Error::new(Refusal::Overloaded).to_status("req-1", None);
        assert!(status.get_error_details().retry_info().is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn trailers_stay_within_their_bounds(
            says in ".{0,3000}",
            violations in prop::collection::vec((".{0,300}", ".{0,300}"), 0..40),
        ) {
            let violations = violations
                .into_iter()
                .map(|(field, description)| Violation::new(field, description))
                .collect();
            let error = Error { violations, ..Error::new(Answer::BadRequest) }.saying(says);
            let status = error.to_status(&"r".repeat(128), None);
            prop_assert!(wire_size(&status) < 8 * 1024, "{}", wire_size(&status));

            let mut headers = http::HeaderMap::new();
            status.add_header(&mut headers).unwrap();
            prop_assert!(headers["grpc-message"].len() <= MESSAGE_LIMIT);
        }
    }
}
