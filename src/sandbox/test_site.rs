//! Test site keys: they provoke failures, as a payment sandbox's test cards do. Knows no resource.

use http::{StatusCode, header};

use super::{
    answer::Answer,
    fields::{self, Operation},
};

/// Each test site key, and what it provokes in one line. Any other key succeeds.
pub const TEST_SITE_KEYS: &[(&str, &str)] = &[
    ("sandbox-400", "400 that names the fields at fault"),
    ("sandbox-401", "401, as if the API key were wrong"),
    ("sandbox-404", "404, as if there were no such record"),
    ("sandbox-409", "409, as if there were such a record already"),
    ("sandbox-429", "429: the day's calls are used up"),
    (
        "sandbox-500",
        "500 with an HTML page from the proxy in front",
    ),
    ("sandbox-503", "503 for maintenance, over in two minutes"),
    ("sandbox-slow", "no answer within 90 seconds"),
    ("sandbox-drop", "the connection closes without an answer"),
    (
        "sandbox-garbage",
        "200 with a JSON document cut off in its middle",
    ),
    (
        "sandbox-applied",
        "200 with \"success\": true, cut off behind it: the write is applied",
    ),
    ("sandbox-refused", "200 with \"success\": false"),
];

/// What a test site key does to a call that was right in all else.
pub(super) enum Provoked {
    Answer(Answer),
    /// Success, far too late.
    Late,
    /// The connection closes.
    HangUp,
}

/// What this site key provokes; nothing where it is an ordinary one.
pub(super) fn provoke(operation: &Operation, site_key: &str) -> Option<Provoked> {
    let answer = match site_key {
        "sandbox-400" => fields::refuse(&operation.refusal),
        "sandbox-401" => Answer::unauthorized("Invalid token."),
        "sandbox-404" => Answer::not_found(),
        "sandbox-409" => Answer::detail(StatusCode::CONFLICT, "This record exists already."),
        "sandbox-429" => throttled(),
        "sandbox-500" => {
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            Answer::proxy_page(status, "500 Internal Server Error")
        }
        "sandbox-503" => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Answer::proxy_page(status, "Down for maintenance").with(header::RETRY_AFTER, "120")
        }
        "sandbox-slow" => return Some(Provoked::Late),
        "sandbox-drop" => return Some(Provoked::HangUp),
        // Cut before the flag's value: nothing says whether the write was taken.
        "sandbox-garbage" => Answer::ok(r#"{"success":tr"#),
        "sandbox-applied" => Answer::ok(r#"{"success":true,"data":{"id":9799"#),
        "sandbox-refused" => {
            Answer::ok(r#"{"success":false,"error":"This site does not take events."}"#)
        }
        _ => return None,
    };
    Some(Provoked::Answer(answer))
}

fn throttled() -> Answer {
    Answer::detail(
        StatusCode::TOO_MANY_REQUESTS,
        "Request was throttled. Expected available in 86399 seconds.",
    )
    .with(header::RETRY_AFTER, "86399")
}
