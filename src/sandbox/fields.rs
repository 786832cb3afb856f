//! The fields of a create or update, checked one by one as a serializer of Django REST framework
//! does: every problem at once, under the REST name, in the framework's words.
//!
//! Stricter than the framework on types, on purpose; see the [module above](super).

use std::borrow::Cow;

use bytes::Bytes;
use http::StatusCode;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use url::Url;

use super::answer::Answer;

/// What both calls carry, under the names of the REST API less their `customer_`.
#[derive(Debug)]
pub(super) struct CustomerWrite {
    pub(super) site_key: String,
    /// Unix seconds.
    pub(super) event_date: i64,
    pub(super) user_id: String,
    pub(super) id: String,
    pub(super) email: String,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) image_url: Option<String>,
    pub(super) has_payment_method: bool,
    pub(super) custom_properties: Option<Map<String, Value>>,
}

/// One field's problem, in words for the caller.
type Problem = Cow<'static, str>;

/// First and last second that a date of four digits can name. Milliseconds sent by mistake fall
/// outside.
const EVENT_DATES: (i64, i64) = (-62_135_596_800, 253_402_300_799);

/// Reads a body, or says everything that is wrong with it.
pub(super) fn parse(body: &Bytes) -> Result<CustomerWrite, Answer> {
    let document = serde_json::from_slice(body).map_err(|error| {
        let detail = format!("JSON parse error - {error}");
        Answer::detail(StatusCode::BAD_REQUEST, &detail)
    })?;
    let Value::Object(fields) = document else {
        let got = python_type(&document);
        let problem = format!("Invalid data. Expected a dictionary, but got {got}.");
        let problems = json!({ "non_field_errors": [problem] });
        return Err(Answer::json(StatusCode::BAD_REQUEST, &problems));
    };
    Form::new(fields).customer_write()
}

/// The document as it is taken apart.
struct Form {
    fields: Map<String, Value>,
    problems: Problems,
}

/// What is wrong with each field, in the order in which the API's table has them.
struct Problems(Vec<(&'static str, Problem)>);

impl Form {
    fn new(fields: Map<String, Value>) -> Self {
        Self {
            fields,
            problems: Problems(Vec::new()),
        }
    }

    fn customer_write(mut self) -> Result<CustomerWrite, Answer> {
        let write = CustomerWrite {
            site_key: self.required("site_key", filled_text),
            event_date: self.required("event_date", event_date),
            user_id: self.required("user_id", filled_text),
            id: self.required("customer_id", filled_text),
            email: self.required("customer_email", email),
            first_name: self.optional("customer_first_name", text),
            last_name: self.optional("customer_last_name", text),
            image_url: self.optional("customer_image_url", image_url),
            has_payment_method: self.required("customer_has_payment_method", boolean),
            custom_properties: self.optional("custom_properties", object),
        };
        if self.problems.0.is_empty() {
            return Ok(write);
        }
        Err(Answer::json(StatusCode::BAD_REQUEST, &self.problems))
    }

    /// A field that has to be there. Where it isn't, or is wrong, its default stands in until all
    /// fields were seen: nobody gets to see it.
    fn required<T: Default>(
        &mut self,
        name: &'static str,
        rule: fn(Value) -> Result<T, Problem>,
    ) -> T {
        if !self.fields.contains_key(name) {
            let problem = Cow::Borrowed("This field is required.");
            self.problems.0.push((name, problem));
        }
        self.optional(name, rule).unwrap_or_default()
    }

    fn optional<T>(
        &mut self,
        name: &'static str,
        rule: fn(Value) -> Result<T, Problem>,
    ) -> Option<T> {
        let value = self.fields.remove(name)?;
        let checked = if value.is_null() {
            Err("This field may not be null.".into())
        } else {
            rule(value)
        };
        checked
            .map_err(|problem| self.problems.0.push((name, problem)))
            .ok()
    }
}

impl Serialize for Problems {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, problem)| (name, [problem])))
    }
}

fn text(value: Value) -> Result<String, Problem> {
    match value {
        Value::String(text) if text.contains('\0') => {
            Err("Null characters are not allowed.".into())
        }
        Value::String(text) => Ok(text),
        _ => Err("Not a valid string.".into()),
    }
}

fn filled_text(value: Value) -> Result<String, Problem> {
    let text = text(value)?;
    if text.trim().is_empty() {
        return Err("This field may not be blank.".into());
    }
    Ok(text)
}

fn email(value: Value) -> Result<String, Problem> {
    let text = filled_text(value)?;
    if is_email(&text) {
        return Ok(text);
    }
    Err("Enter a valid email address.".into())
}

/// An empty one takes the picture away.
fn image_url(value: Value) -> Result<String, Problem> {
    let text = text(value)?;
    if text.is_empty() || is_url(&text) {
        return Ok(text);
    }
    Err("Enter a valid URL.".into())
}

fn boolean(value: Value) -> Result<bool, Problem> {
    serde_json::from_value(value).map_err(|_| "Must be a valid boolean.".into())
}

fn event_date(value: Value) -> Result<i64, Problem> {
    let (first, last) = EVENT_DATES;
    match serde_json::from_value(value) {
        Ok(seconds) if seconds < first => {
            Err(format!("Ensure this value is greater than or equal to {first}.").into())
        }
        Ok(seconds) if seconds > last => {
            Err(format!("Ensure this value is less than or equal to {last}.").into())
        }
        Ok(seconds) => Ok(seconds),
        Err(_) => Err("A valid integer is required.".into()),
    }
}

fn object(value: Value) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(object) => Ok(object),
        other => {
            let got = python_type(&other);
            Err(format!("Expected a dictionary of items but got type \"{got}\".").into())
        }
    }
}

fn python_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "str",
        Value::Array(_) => "list",
        Value::Object(_) => "dict",
    }
}

/// What Django's validator takes, less quoted local parts and addresses in brackets.
fn is_email(text: &str) -> bool {
    let is_atom = |atom: &str| {
        let symbols = b"!#$%&'*+-/=?^_`{|}~";
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || symbols.contains(&byte);
        !atom.is_empty() && atom.bytes().all(fits)
    };
    text.len() <= 320
        && text
            .rsplit_once('@')
            .is_some_and(|(local, domain)| local.split('.').all(is_atom) && is_domain(domain))
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let fits = |letter: char| letter.is_alphanumeric() || letter == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text == "localhost"
        || text.rsplit_once('.').is_some_and(|(parents, top)| {
            parents.split('.').all(is_label) && is_label(top) && top.len() > 1
        })
}

/// The parser alone would let `http:host` and stray spaces pass, as browsers do.
fn is_url(text: &str) -> bool {
    let has_authority = text
        .split_once("://")
        .is_some_and(|(_, rest)| !rest.starts_with('/'));
    has_authority
        && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control())
        && Url::parse(text)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}
