//! The tracker resource: events of users.

use axum::{Router, extract::State, response::Response, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    OnboardFlow,
    answer::Answer,
    event::{Envelope, Taken},
    fields::{
        Field, Problem, Write, filled_text, object, one_of, optional, required, seconds, text,
    },
    gate::Checked,
    resource,
};

/// What the call carries. The site key has another name than elsewhere.
#[derive(Deserialize)]
struct Tracked {
    s: String,
    event: String,
    value: String,
    site_user: Map<String, Value>,
    #[serde(default)]
    meta: Map<String, Value>,
    /// Unix seconds.
    event_date: Option<i64>,
}

/// The event of the worked example: neither session nor provider's data.
#[expect(clippy::struct_field_names, reason = "the names are the JSON's")]
#[derive(Serialize)]
struct Event<'a> {
    /// Unix milliseconds, as its other times.
    event_date: i64,
    event_provider: &'static str,
    event_value: &'a str,
    id: i64,
    site_hash: &'a str,
    event_type: &'a str,
    event_meta: &'a Map<String, Value>,
    site_user: &'a Map<String, Value>,
    created: i64,
    updated: i64,
}

impl Write for Tracked {
    const FIELDS: &'static [Field] = &[
        required("s", filled_text),
        required("event", |value| {
            one_of(&["PAGE_VIEW", "CLICK", "CUSTOM"], value)
        }),
        required("value", filled_text),
        required("site_user", user),
        optional("meta", object),
        optional("event_date", seconds),
        optional("session_id", text),
    ];
    const REFUSAL: [(&'static str, &'static str); 2] = [
        ("value", "Enter a value that is tracked."),
        ("non_field_errors", "The event could not be saved."),
    ];

    fn site_key(&self) -> &str {
        &self.s
    }
}

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

impl Tracked {
    fn recorded(&self, taken: Taken) -> Answer {
        Answer::ok(&Envelope::around(Event {
            event_date: self.event_date.map_or(taken.at, |seconds| seconds * 1000),
            event_provider: "JSTRACKER",
            event_value: &self.value,
            id: taken.id,
            site_hash: &self.s,
            event_type: &self.event,
            event_meta: &self.meta,
            site_user: &self.site_user,
            created: taken.at,
            updated: taken.at,
        }))
    }
}

pub(super) fn routes() -> Router<OnboardFlow> {
    resource("/api/v1/tracker/event/", post(record))
}

async fn record(State(api): State<OnboardFlow>, Checked(sent): Checked<Tracked>) -> Response {
    api.answer(&sent, |taken| sent.recorded(taken)).await
}
