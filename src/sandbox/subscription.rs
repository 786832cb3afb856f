//! The subscription resource: create and update.

use axum::{Router, extract::State, response::Response, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    OnboardFlow,
    answer::Answer,
    event::Taken,
    fields::{Field, Problem, Write, filled_text, number, one_of, required, seconds, string},
    gate::Checked,
    resource,
};

/// What both calls carry. Written, it is the subscription of an event.
#[derive(Deserialize, Serialize)]
struct Subscription {
    #[serde(skip_serializing)]
    site_key: String,
    /// Unix seconds, as all its times.
    #[serde(skip_serializing)]
    event_date: i64,
    #[serde(skip_serializing)]
    customer_id: String,
    #[serde(rename(deserialize = "subscription_id"))]
    id: String,
    #[serde(rename(deserialize = "subscription_name"))]
    name: String,
    /// Its digits, as they came.
    #[serde(rename(deserialize = "subscription_value"))]
    value: Box<RawValue>,
    #[serde(rename(deserialize = "subscription_status"))]
    status: String,
    #[serde(rename(deserialize = "subscription_currency"))]
    currency: String,
    #[serde(rename(deserialize = "subscription_interval"))]
    interval: String,
    #[serde(rename(deserialize = "subscription_trial_end"))]
    trial_end: i64,
    /// Always null: no call sets it.
    #[serde(skip_deserializing)]
    product_id: (),
    #[serde(rename(deserialize = "subscription_started_at"))]
    started_at: i64,
    #[serde(rename(deserialize = "subscription_trial_start"))]
    trial_start: i64,
}

#[derive(Serialize)]
struct Data<'a> {
    customer: Customer<'a>,
    subscription: &'a Subscription,
}

#[derive(Serialize)]
struct Customer<'a> {
    id: &'a str,
}

impl Write for Subscription {
    const FIELDS: &'static [Field] = &[
        required("site_key", filled_text),
        required("event_date", seconds),
        required("customer_id", filled_text),
        required("subscription_id", filled_text),
        required("subscription_name", filled_text),
        required("subscription_status", |value| {
            one_of(&["trialing", "active", "cancelled"], value)
        }),
        required("subscription_interval", |value| {
            one_of(&["DAY", "WEEK", "MONTH", "YEAR"], value)
        }),
        required("subscription_value", number),
        required("subscription_currency", currency),
        required("subscription_started_at", seconds),
        required("subscription_trial_start", seconds),
        required("subscription_trial_end", seconds),
    ];
    const REFUSAL: [(&'static str, &'static str); 2] = [
        ("subscription_currency", "Enter a currency that is traded."),
        ("non_field_errors", "The subscription could not be saved."),
    ];

    fn site_key(&self) -> &str {
        &self.site_key
    }
}

fn currency(value: &serde_json::Value) -> Result<(), Problem> {
    let code = string(value)?;
    if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err("Enter a currency code of ISO 4217.".into())
}

impl Subscription {
    fn event(&self, kind: &'static str, taken: Taken) -> Answer {
        let data = Data {
            customer: Customer {
                id: &self.customer_id,
            },
            subscription: self,
        };
        Answer::ok(&taken.event(&self.site_key, self.event_date, kind, data))
    }
}

pub(super) fn routes() -> Router<OnboardFlow> {
    resource("/api/v1/subscription/", post(create).put(update))
}

async fn create(State(api): State<OnboardFlow>, Checked(sent): Checked<Subscription>) -> Response {
    let event = |taken| sent.event("SUBSCRIPTION_CREATED", taken);
    api.answer(&sent, event).await
}

async fn update(State(api): State<OnboardFlow>, Checked(sent): Checked<Subscription>) -> Response {
    let event = |taken| sent.event("SUBSCRIPTION_UPDATED", taken);
    api.answer(&sent, event).await
}
