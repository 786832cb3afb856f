//! Takes customer data, and the API key, out of what OnboardFlow says of a call.
//!
//! Validation messages may quote the value that they refuse. The caller knows it, but statuses are
//! logged on the way, so no value of the request is passed on in one.

use std::borrow::Cow;

use http::HeaderValue;
use serde_json::Value;

use crate::{error::Error, rest::Call};

const REDACTED: &str = "[redacted]";

/// Replaces the values that `call` sent, the key in `authorization` that it carried, and whatever
/// looks like an address, in the text that OnboardFlow gave for `error`.
pub fn redact(error: &mut Error, call: &Call, authorization: &HeaderValue) {
    if error.says.is_none() && error.violations.is_empty() {
        return;
    }
    let sent = sent_texts(call, authorization);
    if let Some(says) = &mut error.says {
        redact_text(says, &sent);
    }
    for violation in &mut error.violations {
        redact_text(&mut violation.description, &sent);
    }
}

/// The key, and every text among the values that the call sent, the longest first, so that one that holds
/// another is replaced whole.
fn sent_texts(call: &Call, authorization: &HeaderValue) -> Vec<String> {
    let mut texts = Vec::new();
    // Behind the scheme.
    let key = authorization
        .to_str()
        .ok()
        .and_then(|value| value.rsplit(' ').next());
    texts.extend(key.filter(|key| !key.is_empty()).map(str::to_lowercase));
    if let Ok(body) = serde_json::from_slice::<Value>(call.body.as_deref().unwrap_or_default()) {
        collect(&body, &mut texts);
    }
    texts.sort_unstable_by_key(|text| std::cmp::Reverse(text.len()));
    texts
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) if !text.trim().is_empty() => texts.push(text.to_lowercase()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn redact_text(text: &mut Cow<'static, str>, sent: &[String]) {
    let without_values = sent
        .iter()
        .fold(text.to_string(), |text, value| without(&text, value));
    let looks_like_address = |word: &&str| word.contains('@') || word.contains("://");
    let words: Vec<&str> = without_values
        .split(' ')
        .map(|word| {
            if looks_like_address(&word) {
                REDACTED
            } else {
                word
            }
        })
        .collect();
    *text = Cow::Owned(words.join(" "));
}

/// `text` without `value` (in lower case) wherever it stands as a word of its own, in any case:
/// frameworks normalise what they quote.
fn without(text: &str, value: &str) -> String {
    let lower = text.to_lowercase();
    if lower.len() != text.len() {
        // Lower case moved the bytes (a few scripts do): give up the text rather than the value.
        return if lower.contains(value) {
            REDACTED.to_owned()
        } else {
            text.to_owned()
        };
    }
    let mut rest = 0;
    let mut kept = String::with_capacity(text.len());
    for (start, found) in lower.match_indices(value) {
        let end = start + found.len();
        let within_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let is_word = !within_word(lower[..start].chars().next_back())
            && !within_word(lower[end..].chars().next());
        if is_word && text.is_char_boundary(start) && text.is_char_boundary(end) {
            kept.push_str(&text[rest..start]);
            kept.push_str(REDACTED);
            rest = end;
        }
    }
    kept.push_str(&text[rest..]);
    kept
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Method, uri::PathAndQuery};
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Answer, Violation};

    fn redacted(says: &str, sent: &str) -> String {
        let call = Call {
            method: Method::POST,
            path: PathAndQuery::from_static("/"),
            template: "/",
            site_key: String::new(),
            body: Some(Bytes::from(
                serde_json::json!({ "a": [{ "b": sent }] }).to_string(),
            )),
            request_id: None,
        };
        let mut error = Error::new(Answer::BadRequest).saying(says.to_owned());
        error
            .violations
            .push(Violation::new("customer.id", says.to_owned()));
        redact(&mut error, &call, &HeaderValue::from_static("Token 5ec2e7"));
        assert_eq!(
            error.says.as_deref(),
            Some(&*error.violations[0].description)
        );
        error.says.unwrap().into_owned()
    }

    #[test]
    fn the_key_is_taken_out() {
        assert_eq!(
            redacted("Token 5ec2e7 is unknown (5EC2E7).", "Joe"),
            "Token [redacted] is unknown ([redacted])."
        );
    }

    #[test]
    fn values_of_the_request_are_taken_out() {
        assert_eq!(
            redacted("\"Joe\" is not a valid choice.", "Joe"),
            "\"[redacted]\" is not a valid choice."
        );
        assert_eq!(
            redacted("JOE, joe and Joey.", "Joe"),
            "[redacted], [redacted] and Joey."
        );
        assert_eq!(
            redacted("Zoë Ångström is taken", "zoë ångström"),
            "[redacted] is taken"
        );
    }

    #[test]
    fn addresses_are_taken_out_whoever_s_they_are() {
        assert_eq!(
            redacted(
                "someone@example.com has it, see https://example.com/1",
                "Joe"
            ),
            "[redacted] has it, see [redacted]"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(says in ".*", sent in ".*") {
            redacted(&says, &sent);
        }
    }
}
