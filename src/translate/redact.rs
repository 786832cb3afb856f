//! Takes customer data, and the API key, out of what OnboardFlow says of a call.
//!
//! Validation messages may quote the value that they refuse. The caller knows it, but statuses are
//! logged on the way, so no value of the request is passed on in one.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use http::HeaderValue;
use serde_json::value::RawValue;

use self::normal::{folded, normalised};
use crate::{error::Error, rest::Call};

mod normal;

const REDACTED: &str = "[redacted]";
/// Characters of one text that are passed on. It is clipped here, as a value that is cut can't be found.
const MAX_TEXT: usize = 256;
/// The same, for all texts that are no field's.
const MAX_SAYS: usize = 1024;

/// Replaces the values that `call` sent, the key in `authorization` that it carried, and whatever
/// looks like an address, in the text that OnboardFlow gave for `error`.
pub fn redact(error: &mut Error, call: &Call, authorization: &HeaderValue) {
    if error.says.is_none() && error.violations.is_empty() {
        return;
    }
    let finder = finder(call, authorization);
    if let Some(says) = &mut error.says {
        redact_text(says, MAX_SAYS, finder.as_ref());
    }
    for violation in &mut error.violations {
        redact_text(&mut violation.description, MAX_TEXT, finder.as_ref());
    }
}

/// Finds the key, as a part of any word, and every text among the values that the call sent, as words of
/// their own. Of two that begin at one place it finds the longer.
fn finder(call: &Call, authorization: &HeaderValue) -> Option<AhoCorasick> {
    let mut patterns = BTreeSet::new();
    // Behind the scheme.
    let key = authorization
        .to_str()
        .ok()
        .and_then(|value| value.rsplit(' ').next());
    patterns.extend(key.map(|key| normalised(key).without_edges().to_owned()));
    if let Some(body) = &call.body {
        collect(serde_json::from_slice(body).ok()?, &mut patterns);
    }
    patterns.remove("");
    AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::NoncontiguousNFA))
        .build(patterns)
        .ok()
}

/// Collects the texts of our own JSON, but for the names of its fields. A `Value` would not do: it takes an object
/// whose first field has one of serde's private names for something else.
fn collect(json: &RawValue, texts: &mut BTreeSet<String>) {
    let json = json.get();
    if let Ok(text) = serde_json::from_str::<String>(json) {
        // A dash says nothing of a customer, and stands in many a sentence.
        if text.contains(char::is_alphanumeric) {
            // What looks like an escape in a value may be quoted as it is, or escaped once more.
            texts.insert(normalised(&text).text);
            texts.insert(folded(&text).text);
        }
    } else if let Ok(values) = serde_json::from_str::<Vec<&RawValue>>(json) {
        for value in values {
            collect(value, texts);
        }
    } else if let Ok(fields) = serde_json::from_str::<HashMap<String, &RawValue>>(json) {
        for value in fields.values() {
            collect(value, texts);
        }
    }
}

/// One pass: what is to go is found in the text as it came, then the rest is copied.
fn redact_text(text: &mut Cow<'static, str>, limit: usize, finder: Option<&AhoCorasick>) {
    let Some(finder) = finder else {
        *text = REDACTED.into();
        return;
    };
    let normal = normalised(text);
    let mut gone: Vec<Range<usize>> = finder
        .find_iter(&normal.text)
        .map(|found| normal.origin(found.range()))
        .chain(addresses(text))
        .collect();
    gone.sort_unstable_by_key(|range| range.start);

    let mut kept = String::with_capacity(text.len());
    let mut end = 0;
    for range in gone {
        if range.start >= end {
            kept.push_str(&text[end..range.start]);
            kept.push_str(REDACTED);
        }
        end = end.max(range.end);
    }
    kept.push_str(&text[end..]);
    if let Some((cut, _)) = kept.char_indices().nth(limit) {
        kept.truncate(cut);
    }
    *text = Cow::Owned(kept);
}

/// Words that look like an address.
fn addresses(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    text.split(' ').filter_map(move |word| {
        let range = start..start + word.len();
        start = range.end + 1;
        (word.contains('@') || word.contains("://")).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Method, uri::PathAndQuery};
    use proptest::prelude::*;

    use super::*;
    use crate::error::{Answer, Violation};

    fn call(body: String) -> Call {
        Call {
            method: Method::POST,
            path: PathAndQuery::from_static("/"),
            template: "/",
            site_key: String::new(),
            names: crate::rest::Names::default(),
            body: Some(Bytes::from(body)),
            request_id: None,
        }
    }

    fn redacted_of(says: String, body: String) -> String {
        let mut error = Error::new(Answer::BadRequest).saying(says.clone());
        error.violations.push(Violation::new("customer.id", says));
        let key = HeaderValue::from_static("Token 5ec2e7");
        redact(&mut error, &call(body), &key);
        let description = error.violations.remove(0).description.into_owned();
        assert!(error.says.unwrap().starts_with(&description));
        description
    }

    fn redacted(says: &str, sent: &str) -> String {
        let body = serde_json::json!({ "a": [{ "b": sent }] });
        redacted_of(says.to_owned(), body.to_string())
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
    fn values_are_taken_out_whatever_their_fields_are_called() {
        for field in ["RawValue", "Number"] {
            let body = format!(r#"{{"a":"Zoe","b":{{"$serde_json::private::{field}":"Joe"}}}}"#);
            let said = redacted_of("Joe and Zoe.".to_owned(), body);
            assert_eq!(said, "[redacted] and [redacted].", "{field}");
        }
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

    #[test]
    fn the_key_is_taken_out_of_the_middle_of_a_word() {
        assert_eq!(
            redacted("no such key: ApiToken5EC2E7x", "Joe"),
            "no such key: ApiToken[redacted]x"
        );
    }

    #[test]
    fn values_are_found_however_they_are_quoted() {
        for (says, sent) in [
            ("Say Joe \"Jo\" O'Neil.", "  Joe \"Jo\"\tO'Neil\n"),
            ("Say Joe &quot;Jo&quot; O&#x27;Neil.", "Joe \"Jo\" O'Neil"),
            ("Say Joe \\\"Jo\\\" O\\u0027Neil.", "Joe \"Jo\" O'Neil"),
            (
                "Say ZO\\u00cb \\xe5ngstr&#246;m.",
                "Zo\u{eb} \u{c5}ngstr\u{f6}m",
            ),
            ("Say STRASSE \u{3a3}\u{3a3}.", "Stra\u{df}e \u{3c3}\u{3c2}"),
            ("Say a\\n.", "a\\n"),
            ("Say a\\\\n.", "a\\n"),
        ] {
            assert_eq!(redacted(says, sent), "Say [redacted].", "{sent:?}");
        }
    }

    #[test]
    fn what_was_written_is_not_read_again() {
        let body = serde_json::json!({ "a": "Joe", "b": "redacted", "c": "[redacted]" });
        let says = "Joe, [redacted] and redacted".to_owned();
        let said = redacted_of(says, body.to_string());
        assert_eq!(said, "[redacted], [redacted] and [redacted]");
    }

    #[test]
    fn a_value_is_taken_out_before_the_text_is_clipped() {
        let sent = "x".repeat(300);
        assert_eq!(redacted(&format!("Not {sent}!"), &sent), "Not [redacted]!");
        let says = "word ".repeat(300);
        let body = r#"{"a":"b"}"#.to_owned();
        assert_eq!(redacted_of(says, body).chars().count(), MAX_TEXT);
    }

    /// 54 KB of values took 8 s: each text was written anew for each value.
    #[test]
    fn the_cost_is_values_and_texts_added() {
        let values: Vec<String> = (0..16_000).map(|n| format!("v{n}")).collect();
        let call = call(serde_json::json!(values).to_string());
        let mut error = Error::new(Answer::BadRequest);
        let text = "v1 v16 ".repeat(500);
        error.violations = vec![Violation::new("customer.id", text); 64];
        let key = HeaderValue::from_static("Token 5ec2e7");
        let made = allocation_counter::measure(|| redact(&mut error, &call, &key));
        // It was 16,000 values times 64 texts of 3,500 bytes.
        assert!(made.bytes_total < 256 * 1024 * 1024, "{made:?}");
        assert!(error.violations[63].description.starts_with("[redacted] "));
    }

    proptest! {
        #[test]
        fn no_value_gets_through(
            before in "[ -~]{0,300}",
            sent in "[a-z]{4}[ -~]{0,30}[a-z]{4}",
            form in 0..4,
        ) {
            let quoted = match form {
                0 => sent.clone(),
                1 => sent.to_uppercase(),
                2 => serde_json::to_string(&sent).unwrap(),
                _ => sent.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&#x27;"),
            };
            let said = redacted(&format!("{before} {quoted} !"), &sent);
            let (head, tail) = (&sent[..4], &sent[sent.len() - 4..]);
            prop_assume!(!before.contains(head) && !before.contains(tail));
            prop_assert!(!said.to_lowercase().contains(&sent), "{said}");
        }

        #[test]
        fn no_text_panics(says in ".*", sent in ".*") {
            redacted(&says, &sent);
        }
    }
}
