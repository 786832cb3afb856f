//! Why OnboardFlow refused a call, read out of whatever body came with the refusal.
//!
//! The API documents no error bodies. What is read here are the shapes of Django REST framework,
//! which the rest of the API looks like, and of the envelope with `success: false`; nothing depends
//! on them. Where nothing can be read, the caller is told so, and never sees the body.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::{
    error::{Answer, Error, Violation},
    rest::Reply,
};

/// Turns the name of a field of a request's JSON into its path in the proto.
pub(super) type FieldPaths = fn(&str) -> Option<&'static str>;

/// Most violations that are read out of one body.
const MAX_VIOLATIONS: usize = 64;
/// Characters that one text may have.
const MAX_TEXT: usize = 256;
/// How deep errors may be nested: `errors.custom_properties.colour[0]` and some to spare.
const MAX_DEPTH: usize = 6;

/// A refusal, with what its body says.
pub(super) fn error(answer: Answer, reply: &Reply, field_paths: FieldPaths) -> Error {
    let mut reasons = Reasons {
        field_paths,
        texts: Vec::new(),
        violations: Vec::new(),
    };
    if let Ok(body) = serde_json::from_slice::<Value>(&reply.body) {
        reasons.read_body(&body);
    }
    let named = reasons.violations.len();
    let says: Cow<'static, str> = match (reasons.texts.as_slice(), named) {
        ([], 0) => "its answer gives no reason that can be read".into(),
        ([], _) => "the fields at fault are in the details".into(),
        (texts, _) => texts.join(" ").into(),
    };
    let retry_after = reply.retry_after.or_else(|| delay_in(&reasons.texts));
    let mut error = Error::new(answer).saying(says).with_status(reply.status);
    error.violations = reasons.violations;
    error.retry_after = retry_after;
    error
}

/// The delay in "Request was throttled. Expected available in 86399 seconds."
fn delay_in(texts: &[String]) -> Option<std::time::Duration> {
    let (_, rest) = texts
        .iter()
        .find_map(|text| text.split_once("available in "))?;
    let seconds = rest.split(' ').next()?.parse().ok()?;
    Some(std::time::Duration::from_secs(seconds))
}

struct Reasons {
    field_paths: FieldPaths,
    texts: Vec<String>,
    violations: Vec<Violation>,
}

impl Reasons {
    fn read_body(&mut self, body: &Value) {
        match body {
            Value::Object(fields) => self.read_fields("", fields, 0),
            other => self.read_value("", other, 0),
        }
    }

    fn read_fields(&mut self, parent: &str, fields: &Map<String, Value>, depth: usize) {
        // `{"field": "customer_email", "message": "…"}`, as some APIs list their errors.
        let field = fields.get("field").and_then(Value::as_str);
        let named = field.map(|name| self.path(parent, name));
        let parent = named.as_deref().unwrap_or(parent);
        for (name, value) in fields {
            match name.as_str() {
                "field" if field.is_some() => {}
                // Not reasons.
                "success" | "status" | "status_code" | "code" | "data" => {}
                // Reasons that are nobody's, or that hold others.
                "detail" | "details" | "error" | "errors" | "message" | "messages"
                | "non_field_errors" => self.read_value(parent, value, depth + 1),
                _ => self.read_value(&self.path(parent, name), value, depth + 1),
            }
        }
    }

    fn read_value(&mut self, field: &str, value: &Value, depth: usize) {
        if depth > MAX_DEPTH || self.texts.len() + self.violations.len() >= MAX_VIOLATIONS {
            return;
        }
        match value {
            Value::String(text) => self.push(field, text),
            Value::Array(values) => {
                for value in values {
                    self.read_value(field, value, depth + 1);
                }
            }
            Value::Object(fields) => self.read_fields(field, fields, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
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

    /// The path of a field, under its proto name where it has one. A name that doesn't look like
    /// one is data, and is left out.
    fn path(&self, parent: &str, name: &str) -> String {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 64 || !name.chars().all(is_name) {
            return parent.to_owned();
        }
        match (parent, (self.field_paths)(name)) {
            ("", Some(path)) => path.to_owned(),
            ("", None) => name.to_owned(),
            (parent, _) => format!("{parent}.{name}"),
        }
    }
}

/// The text on one line and clipped, or `None` where it is markup or says nothing.
fn readable(text: &str) -> Option<String> {
    let is_markup = text.contains('<') && text.contains('>');
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .collect();
    let line: String = words.join(" ").chars().take(MAX_TEXT).collect();
    let line = line.trim();
    (!is_markup && !line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let paths: FieldPaths = |name| (name == "customer_email").then_some("customer.email");
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
        let (_, mut violations) = read(body);
        violations.sort();
        assert_eq!(
            violations,
            [
                violation("custom_properties.colour", "Bad too."),
                violation("customer.email", "Bad.")
            ]
        );
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
