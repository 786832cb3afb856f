//! An [`Error`] as a [`Status`] with details, within the size that every gRPC client takes.
//!
//! Clients refuse trailers beyond 8 KiB (grpc-go, grpc-java and nginx among them), and with them
//! the whole answer. So the message is bounded in its percent-encoded form, and violations are
//! listed while there is room.

use std::{collections::HashMap, time::Duration};

use tonic::{Status, metadata::MetadataValue};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{Error, Violation};
use crate::rest::Intent;

/// The `domain` of every `google.rpc.ErrorInfo` from this gateway.
pub const DOMAIN: &str = "onboardflow.com";

/// Bytes that `grpc-message` may have on the wire.
const MESSAGE_LIMIT: usize = 1024;
/// Bytes that all violations together may have before base64, which adds a third.
const VIOLATIONS_LIMIT: usize = 3 * 1024;
/// Bytes that one violation's path or description may have.
const VIOLATION_TEXT_LIMIT: usize = 256;

pub(super) fn status(error: &Error, request_id: &str, intent: Option<Intent>) -> Status {
    let row = error.kind.row();
    let message = message(error, intent);
    let mut status = Status::with_error_details(row.code, message, details(error, request_id));
    if error.kind.forbids_retries() {
        // Clients with a retry policy would repeat the call by themselves, each time at the cost of
        // one of the day's. Any time in its place makes some of them (grpc-java) wait for it.
        let never = MetadataValue::from_static("-1");
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", never);
    }
    status
}

/// What a caller should wait, where waiting helps.
fn retry_delay(error: &Error) -> Option<Duration> {
    let default = error.kind.default_retry_delay()?;
    // `Retry-After: 0` names no time: at once is when OnboardFlow has just refused the call.
    let named = error.retry_after.filter(|delay| !delay.is_zero());
    Some(named.unwrap_or(default))
}

fn message(error: &Error, intent: Option<Intent>) -> String {
    let advice = error.kind.advice(intent);
    match &error.says {
        Some(says) => clip(&format!("{advice}: {says}"), MESSAGE_LIMIT, encoded_len),
        None => advice.into_owned(),
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
    let mut details = ErrorDetails::with_error_info(row.reason, DOMAIN, metadata);

    for Violation { field, description } in listed(&error.violations) {
        details.add_bad_request_violation(field, description);
    }
    if let Some(delay) = retry_delay(error) {
        details.set_retry_info(Some(delay));
    }
    if error.kind.is_quota() {
        details.add_quota_failure_violation(
            "account",
            "OnboardFlow limits the calls of an account per day",
        );
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
        error::{Answer, Refusal},
        rest::Effect,
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
        let told = |effect, may_have| {
            let intent = Intent { effect, may_have };
            let error = Error::new(Answer::Timeout);
            error.to_status("req-1", Some(intent)).message().to_owned()
        };
        let event = told(Effect::Creates, "the event may have been recorded");
        assert!(
            event.contains("the event may have been recorded; check"),
            "{event}"
        );
        let deletion = told(Effect::Deletes, "the customer may have been deleted");
        assert!(
            deletion.contains("deleted; sending the call again does no harm"),
            "{deletion}"
        );
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
