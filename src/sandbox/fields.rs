//! The fields of a call, checked one by one as a serializer of Django REST framework does: every
//! problem at once, under the REST name, in the framework's words.
//!
//! Stricter than the framework on types, on purpose; see the [module above](super).

use std::borrow::Cow;

use http::StatusCode;
use serde_json::{Value, json};
use url::Url;

use super::{answer::Answer, event::Taken, sent::Sent};

/// A call of the API.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    /// The name of the field with the site's key.
    pub(super) site_key: &'static str,
    /// In the order in which their problems are told.
    pub(super) fields: &'static [Field],
    /// What `sandbox-400` finds wrong with it.
    pub(super) refusal: [(&'static str, &'static str); 2],
    pub(super) success: fn(&Sent, Taken) -> Answer,
}

pub(super) struct Field {
    name: &'static str,
    need: Need,
    rule: Rule,
}

#[derive(PartialEq)]
enum Need {
    Required,
    Optional,
}

type Rule = fn(&Value) -> Result<(), Problem>;

/// One field's problem, in words for the caller.
pub(super) type Problem = Cow<'static, str>;

pub(super) const fn required(name: &'static str, rule: Rule) -> Field {
    let need = Need::Required;
    Field { name, need, rule }
}

pub(super) const fn optional(name: &'static str, rule: Rule) -> Field {
    let need = Need::Optional;
    Field { name, need, rule }
}

/// First and last second that a date of four digits can name. Milliseconds sent by mistake fall
/// outside.
const DATES: (i64, i64) = (-62_135_596_800, 253_402_300_799);

/// Reads a body, or says everything that is wrong with it.
pub(super) fn parse(operation: &Operation, body: &[u8]) -> Result<Sent, Answer> {
    let document = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    let Value::Object(fields) = document else {
        let got = python_type(&document);
        let problem = format!("Invalid data. Expected a dictionary, but got {got}.");
        return Err(refuse(&[("non_field_errors", problem)]));
    };
    let problem_of = |field: &Field| match fields.get(field.name) {
        None if field.need == Need::Optional => None,
        None => Some("This field is required.".into()),
        Some(Value::Null) => Some("This field may not be null.".into()),
        Some(value) => (field.rule)(value).err(),
    };
    let named = |field: &Field| Some((field.name, problem_of(field)?));
    let problems: Vec<_> = operation.fields.iter().filter_map(named).collect();
    if problems.is_empty() {
        serde_json::from_slice(body).map_err(|error| not_json(&error))
    } else {
        Err(refuse(&problems))
    }
}

/// 400 with each field's one problem.
pub(super) fn refuse<P: AsRef<str>>(problems: &[(&'static str, P)]) -> Answer {
    let one =
        |(name, problem): &(&str, P)| format!("{}:{}", json!(name), json!([problem.as_ref()]));
    let all: Vec<_> = problems.iter().map(one).collect();
    Answer::json(StatusCode::BAD_REQUEST, format!("{{{}}}", all.join(",")))
}

fn not_json(error: &serde_json::Error) -> Answer {
    let detail = format!("JSON parse error - {error}");
    Answer::detail(StatusCode::BAD_REQUEST, &detail)
}

/// A rule that holds, or the problem where it doesn't.
pub(super) fn check(holds: bool, problem: impl Into<Problem>) -> Result<(), Problem> {
    if holds { Ok(()) } else { Err(problem.into()) }
}

pub(super) fn text(value: &Value) -> Result<(), Problem> {
    string(value).map(drop)
}

pub(super) fn filled_text(value: &Value) -> Result<(), Problem> {
    let is_filled = !string(value)?.trim().is_empty();
    check(is_filled, "This field may not be blank.")
}

pub(super) fn email(value: &Value) -> Result<(), Problem> {
    filled_text(value)?;
    check(is_email(string(value)?), "Enter a valid email address.")
}

/// An empty one takes the picture away.
pub(super) fn url(value: &Value) -> Result<(), Problem> {
    let text = string(value)?;
    check(text.is_empty() || is_url(text), "Enter a valid URL.")
}

pub(super) fn boolean(value: &Value) -> Result<(), Problem> {
    check(value.is_boolean(), "Must be a valid boolean.")
}

/// Unix seconds.
pub(super) fn seconds(value: &Value) -> Result<(), Problem> {
    let (first, last) = DATES;
    match value.as_i64() {
        Some(seconds) if seconds < first => {
            Err(format!("Ensure this value is greater than or equal to {first}.").into())
        }
        Some(seconds) if seconds > last => {
            Err(format!("Ensure this value is less than or equal to {last}.").into())
        }
        Some(_) => Ok(()),
        None => Err("A valid integer is required.".into()),
    }
}

pub(super) fn object(value: &Value) -> Result<(), Problem> {
    let got = python_type(value);
    let problem = format!("Expected a dictionary of items but got type \"{got}\".");
    check(value.is_object(), problem)
}

pub(super) fn number(value: &Value) -> Result<(), Problem> {
    check(value.is_number(), "A valid number is required.")
}

pub(super) fn one_of(choices: &[&str], value: &Value) -> Result<(), Problem> {
    let text = string(value)?;
    let problem = format!("\"{text}\" is not a valid choice.");
    check(choices.contains(&text), problem)
}

pub(super) fn string(value: &Value) -> Result<&str, Problem> {
    match value {
        Value::String(text) if text.contains('\0') => {
            Err("Null characters are not allowed.".into())
        }
        Value::String(text) => Ok(text),
        _ => Err("Not a valid string.".into()),
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
