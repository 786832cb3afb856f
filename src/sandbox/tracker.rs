//! The tracker resource: events of users. Knows nothing of how a call is checked or answered.

use axum::{Router, routing::MethodFilter};
use serde_json::Value;

use super::{
    OnboardFlow,
    answer::Answer,
    event::Taken,
    fields::{Operation, Problem, filled_text, object, one_of, optional, required, seconds, text},
    resource,
    sent::Sent,
};

pub(super) fn routes() -> Router<OnboardFlow> {
    resource("/api/v1/tracker/event/", [(MethodFilter::POST, &RECORD)])
}

const RECORD: Operation = Operation {
    // Another name than elsewhere.
    site_key: "s",
    fields: &[
        required("s", filled_text),
        required("event", |value| {
            one_of(&["PAGE_VIEW", "CLICK", "CUSTOM"], value)
        }),
        required("value", filled_text),
        required("site_user", user),
        optional("meta", object),
        optional("event_date", seconds),
        optional("session_id", text),
    ],
    refusal: [
        ("value", "Enter a value that is tracked."),
        ("non_field_errors", "The event could not be saved."),
    ],
    success: recorded,
};

/// An object that names a user and the user's customer.
fn user(value: &Value) -> Result<(), Problem> {
    object(value)?;
    for name in ["id", "customer_id"] {
        filled_text(&value[name]).map_err(|problem| format!("{name}: {problem}"))?;
    }
    match value.get("custom_properties") {
        Some(properties) => object(properties),
        None => Ok(()),
    }
}

/// The event of the worked example has neither a session nor a provider's data.
fn recorded(sent: &Sent, Taken { id, at }: Taken) -> Answer {
    let date = sent.seconds("event_date");
    let meta = match sent.json("meta") {
        "null" => "{}",
        meta => meta,
    };
    Answer::ok(format!(
        r#"{{"success":true,"data":{{"event_date":{},"event_provider":"JSTRACKER","event_value":{},"id":{id},"site_hash":{},"event_type":{},"event_meta":{meta},"site_user":{},"created":{at},"updated":{at}}}}}"#,
        date.map_or(at, |seconds| seconds * 1000),
        sent.json("value"),
        sent.json("s"),
        sent.json("event"),
        sent.json("site_user"),
    ))
}
