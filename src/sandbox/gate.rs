//! What is checked before anyone looks at a request's fields: whose key it has, and in which format
//! it is. The router has checked path and verb by then. Knows no field.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};

use super::answer::Answer;

/// Says what is wrong with a call, whatever it carries.
pub(super) fn check(headers: &HeaderMap, token: &SecretString) -> Result<(), Answer> {
    credentials(headers, token)?;
    accept(headers)?;
    content_type(headers)
}

/// The framework's token authentication, under both names that the scheme has had.
fn credentials(headers: &HeaderMap, token: &SecretString) -> Result<(), Answer> {
    let value = headers.get(header::AUTHORIZATION);
    let mut words = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .split_ascii_whitespace();
    let detail = match (words.next(), words.next(), words.next()) {
        (Some(scheme), key, more) if is_scheme(scheme) => match (key, more) {
            (None, _) => "Invalid token header. No credentials provided.",
            (_, Some(_)) => "Invalid token header. Token string should not contain spaces.",
            (Some(key), None) if key == token.expose_secret() => return Ok(()),
            (Some(_), None) => "Invalid token.",
        },
        _ => "Authentication credentials were not provided.",
    };
    Err(Answer::unauthorized(detail))
}

fn is_scheme(word: &str) -> bool {
    word.eq_ignore_ascii_case("token") || word.eq_ignore_ascii_case("bearer")
}

/// The API speaks nothing but JSON. As the framework does, this looks at no `q`.
fn accept(headers: &HeaderMap) -> Result<(), Answer> {
    let mut ranges = headers.get_all(header::ACCEPT).iter().peekable();
    let takes_json = |value: &HeaderValue| {
        let ranges = value.to_str().unwrap_or_default().split(',');
        ranges.map(essence).any(|range| {
            ["application/json", "application/*", "*/*"]
                .iter()
                .any(|fits| range.eq_ignore_ascii_case(fits))
        })
    };
    if ranges.peek().is_none() || ranges.any(takes_json) {
        return Ok(());
    }
    Err(Answer::detail(
        StatusCode::NOT_ACCEPTABLE,
        "Could not satisfy the request Accept header.",
    ))
}

/// The body has to say that it is JSON; a charset may follow.
fn content_type(headers: &HeaderMap) -> Result<(), Answer> {
    let value = headers.get(header::CONTENT_TYPE);
    let media_type = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if essence(media_type).eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Answer::detail(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        &format!("Unsupported media type \"{media_type}\" in request."),
    ))
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}
