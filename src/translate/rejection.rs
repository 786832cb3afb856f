//! Why OnboardFlow refused a call, read out of whatever body came with the refusal.
//!
//! The API documents no error bodies. What is read here are the shapes of Django REST framework,
//! which the rest of the API looks like, and of the envelope with `success: false`; nothing depends
//! on them. Where nothing can be read, the caller is told so, and never sees the body.

use std::{borrow::Cow, time::Duration};

use prost_types::{Struct, Value, value::Kind};

use super::json::AnyJson;
use crate::{
    error::{Answer, Error, Violation},
    rest::Reply,
};

/// Turns the name of a field of a request's JSON into its path in the proto. A field within another comes
/// as the other's path, a dot, and its name.
pub type FieldPaths = fn(&str) -> Option<&'static str>;

/// Most texts that are read out of one body.
const MAX_REASONS: usize = 64;
/// Bytes that a text may have to be a reason. What it quotes is taken out before it is clipped to what
/// a status has room for, so it has to be whole here.
const MAX_TEXT: usize = 4096;
/// How deep errors may be nested: `errors.custom_properties.colour[0]` and some to spare.
const MAX_DEPTH: usize = 6;

/// A refusal, with what its body says.
pub(super) fn error(answer: Answer, reply: &Reply, field_paths: FieldPaths) -> Error {
    let mut reasons = Reasons {
        field_paths,
        texts: Vec::new(),
        violations: Vec::new(),
        unknown_names: 0,
    };
    if let Ok(body) = serde_json::from_slice::<AnyJson>(&reply.body) {
        reasons.read_value("", &body.0, 0);
    }
    let retry_after = reply.retry_after.or_else(|| delay_in(&reasons.texts));
    let mut error = Error::new(answer)
        .saying(reasons.says())
        .with_status(reply.status);
    error.violations = reasons.violations;
    error.retry_after = retry_after;
    error
}

/// The delay in "Request was throttled. Expected available in 86399 seconds."
fn delay_in(texts: &[String]) -> Option<Duration> {
    let (_, rest) = texts
        .iter()
        .find_map(|text| text.split_once("available in "))?;
    let seconds = rest.split(' ').next()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

struct Reasons {
    field_paths: FieldPaths,
    texts: Vec<String>,
    violations: Vec<Violation>,
    /// Names of fields that are in no request. They may be customers' data.
    unknown_names: usize,
}

impl Reasons {
    fn read_fields(&mut self, parent: &str, Struct { fields }: &Struct, depth: usize) {
        // `{"field": "customer_email", "message": "…"}`, as some APIs list their errors.
        let field = match fields.get("field").map(|value| &value.kind) {
            Some(Some(Kind::StringValue(name))) => Some(name),
            _ => None,
        };
        let parent = match field {
            Some(name) => self.path(parent, name),
            None => parent,
        };
        for (name, value) in fields {
            match name.as_str() {
                "field" if field.is_some() => {}
                // Not reasons.
                "success" | "status" | "status_code" | "code" | "data" => {}
                // Reasons that are nobody's, or that hold others.
                "detail" | "details" | "error" | "errors" | "message" | "messages"
                | "non_field_errors" => self.read_value(parent, value, depth + 1),
                _ => {
                    let path = self.path(parent, name);
                    self.read_value(path, value, depth + 1);
                }
            }
        }
    }

    fn read_value(&mut self, field: &str, value: &Value, depth: usize) {
        if depth > MAX_DEPTH || self.texts.len() + self.violations.len() >= MAX_REASONS {
            return;
        }
        match &value.kind {
            Some(Kind::StringValue(text)) => self.push(field, text),
            Some(Kind::ListValue(list)) => {
                for value in &list.values {
                    self.read_value(field, value, depth + 1);
                }
            }
            Some(Kind::StructValue(fields)) => self.read_fields(field, fields, depth),
            None | Some(Kind::NullValue(_) | Kind::BoolValue(_) | Kind::NumberValue(_)) => {}
        }
    }

    fn push(&mut self, field: &str, text: &str) {
        let Some(text) = readable(text) else { return };
        if field.is_empty() {
            self.texts.push(text);
        } else {
            self.violations.push(Violation::new(field, text));
        }
    }

    /// The path of a field in the proto. A name that no request has is counted and dropped: what is
    /// said of it is said of what stands around it.
    fn path<'a>(&mut self, parent: &'a str, name: &str) -> &'a str {
        let path = match parent {
            "" => (self.field_paths)(name),
            parent => (self.field_paths)(&format!("{parent}.{name}")),
        };
        path.unwrap_or_else(|| {
            self.unknown_names += 1;
            parent
        })
    }

    /// The reasons that are no field's.
    fn says(&self) -> Cow<'static, str> {
        let mut says: Cow<'static, str> = match (self.texts.as_slice(), self.violations.len()) {
            ([], 0) => return "its answer gives no reason that can be read".into(),
            ([], _) => "the fields at fault are in the details".into(),
            (texts, _) => texts.join(" ").into(),
        };
        if self.unknown_names > 0 {
            let count = format!(
                " (names of unknown fields left out: {})",
                self.unknown_names
            );
            says.to_mut().push_str(&count);
        }
        says
    }
}

/// The text on one line, or `None` where it is markup, says nothing, or is too long to be a reason.
fn readable(text: &str) -> Option<String> {
    let is_markup = text.contains('<') && text.contains('>');
    if is_markup || text.len() > MAX_TEXT {
        return None;
    }
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::*;
    use crate::rest::{Ending, KeyHolder};

    fn read(body: &'static str) -> (String, Vec<(String, String)>) {
        let error = read_error(body);
        let violations = error
            .violations
            .into_iter()
            .map(|violation| (violation.field, violation.description.into_owned()))
            .collect();
        (error.says.unwrap().into_owned(), violations)
    }

    fn read_error(body: &'static str) -> Error {
        let reply = Reply {
            status: StatusCode::BAD_REQUEST,
            retry_after: None,
            body: Bytes::from_static(body.as_bytes()),
            ending: Ending::Complete,
            key_holder: KeyHolder::Gateway,
        };
        let paths: FieldPaths = |name| match name {
            "customer_email" => Some("customer.email"),
            "custom_properties" => Some("custom_properties"),
            _ => None,
        };
        error(Answer::BadRequest, &reply, paths)
    }

    fn violation(field: &str, description: &str) -> (String, String) {
        (field.to_owned(), description.to_owned())
    }

    #[test]
    fn django_rest_framework_s_field_errors() {
        let body = r#"{"customer_email": ["Enter a valid email address."], "non_field_errors": ["Too old."]}"#;
        assert_eq!(
            read(body),
            (
                "Too old.".to_owned(),
                vec![violation("customer.email", "Enter a valid email address.")]
            )
        );
    }

    #[test]
    fn a_message_wherever_it_stands() {
        for body in [
            r#"{"detail": "No."}"#,
            r#"{"success": false, "error": "No."}"#,
            r#"{"success": false, "message": "No."}"#,
            r#"{"success": false, "errors": ["No."]}"#,
            r#"{"success": false, "errors": [{"message": "No."}]}"#,
            r#"{"error": {"code": 7, "message": "No."}}"#,
            r#"["No."]"#,
            r#""No.""#,
        ] {
            assert_eq!(read(body), ("No.".to_owned(), vec![]), "{body}");
        }
    }

    #[test]
    fn nested_field_errors() {
        let body = r#"{"errors": {"customer_email": "Bad.", "custom_properties": {"colour": ["Bad too."]}}}"#;
        let (says, mut violations) = read(body);
        violations.sort();
        assert_eq!(
            violations,
            [
                violation("custom_properties", "Bad too."),
                violation("customer.email", "Bad.")
            ]
        );
        assert_eq!(
            says,
            "the fields at fault are in the details (names of unknown fields left out: 1)"
        );
    }

    #[test]
    fn names_that_no_request_has_are_counted_and_dropped() {
        for body in [
            r#"{"cus_123XYZ": ["Taken."], "Joe": "Taken."}"#,
            r#"{"errors": [{"field": "cus_123XYZ", "message": "Taken."}, {"Joe": "Taken."}]}"#,
        ] {
            let (says, violations) = read(body);
            assert_eq!(violations, [], "{body}");
            assert_eq!(
                says, "Taken. Taken. (names of unknown fields left out: 2)",
                "{body}"
            );
        }
    }

    #[test]
    fn errors_that_name_their_field_in_a_value() {
        let body =
            r#"{"success": false, "errors": [{"field": "customer_email", "message": "Bad."}]}"#;
        let (says, violations) = read(body);
        assert_eq!(says, "the fields at fault are in the details");
        assert_eq!(violations, [violation("customer.email", "Bad.")]);
    }

    #[test]
    fn what_cannot_be_read_is_not_echoed() {
        for body in [
            "",
            "<html><body>Bad Request</body></html>",
            r#"{"detail": "<h1>Bad Request</h1>"}"#,
            r#"{"detail": "No"#,
            "null",
            "{}",
            "[[[[[[[[[[[[\"deep\"]]]]]]]]]]]]",
        ] {
            let (says, violations) = read(body);
            assert_eq!(
                says, "its answer gives no reason that can be read",
                "{body}"
            );
            assert_eq!(violations, [], "{body}");
        }
    }

    #[test]
    fn a_delay_in_words() {
        let error = read_error(
            r#"{"detail": "Request was throttled. Expected available in 86399 seconds."}"#,
        );
        assert_eq!(error.retry_after, Some(Duration::from_secs(86_399)));
    }
}
