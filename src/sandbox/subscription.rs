//! The subscription resource: create and update. Knows nothing of how a call is checked or answered.

use axum::{Router, routing::MethodFilter};
use serde_json::Value;

use super::{
    OnboardFlow,
    answer::Answer,
    event::Taken,
    fields::{Operation, Problem, check, filled_text, number, one_of, required, seconds, string},
    resource,
    sent::Sent,
};

pub(super) fn routes() -> Router<OnboardFlow> {
    let operations = [(MethodFilter::POST, &CREATE), (MethodFilter::PUT, &UPDATE)];
    resource("/api/v1/subscription/", operations)
}

const CREATE: Operation = Operation {
    site_key: "site_key",
    fields: &[
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
    ],
    refusal: [
        ("subscription_currency", "Enter a currency that is traded."),
        ("non_field_errors", "The subscription could not be saved."),
    ],
    success: |sent, taken| recorded(sent, taken, "SUBSCRIPTION_CREATED"),
};

const UPDATE: Operation = Operation {
    success: |sent, taken| recorded(sent, taken, "SUBSCRIPTION_UPDATED"),
    ..CREATE
};

fn currency(value: &Value) -> Result<(), Problem> {
    let code = string(value)?;
    let is_code = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
    check(is_code, "Enter a currency code of ISO 4217.")
}

/// No call sets the product's id.
fn recorded(sent: &Sent, taken: Taken, kind: &str) -> Answer {
    let data = format!(
        r#"{{"customer":{{"id":{}}},"subscription":{{"id":{},"name":{},"value":{},"status":{},"currency":{},"interval":{},"trial_end":{},"product_id":null,"started_at":{},"trial_start":{}}}}}"#,
        sent.json("customer_id"),
        sent.json("subscription_id"),
        sent.json("subscription_name"),
        sent.json("subscription_value"),
        sent.json("subscription_status"),
        sent.json("subscription_currency"),
        sent.json("subscription_interval"),
        sent.json("subscription_trial_end"),
        sent.json("subscription_started_at"),
        sent.json("subscription_trial_start"),
    );
    taken.event(sent, kind, &data)
}
