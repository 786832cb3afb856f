//! The customer resource: create, update and delete. Knows nothing of how a call is checked or answered.

use axum::{Router, routing::MethodFilter};
use http::StatusCode;

use super::{
    OnboardFlow,
    answer::Answer,
    event::Taken,
    fields::{
        Field, Operation, boolean, email, filled_text, object, optional, required, seconds, text,
        url,
    },
    resource,
    sent::Sent,
};

pub(super) fn routes() -> Router<OnboardFlow> {
    let operations = [
        (MethodFilter::POST, &CREATE),
        (MethodFilter::PUT, &UPDATE),
        (MethodFilter::DELETE, &DELETE),
    ];
    resource("/api/v1/customer/", operations)
}

const FIELDS: &[Field] = &[
    required("site_key", filled_text),
    required("event_date", seconds),
    required("user_id", filled_text),
    required("customer_id", filled_text),
    required("customer_email", email),
    optional("customer_first_name", text),
    optional("customer_last_name", text),
    optional("customer_image_url", url),
    required("customer_has_payment_method", boolean),
    optional("custom_properties", object),
];

pub(super) const CREATE: Operation = Operation {
    site_key: "site_key",
    fields: FIELDS,
    refusal: [
        ("customer_email", "Enter a valid email address."),
        ("non_field_errors", "The customer could not be saved."),
    ],
    success: |sent, taken| recorded(sent, taken, "CUSTOMER_CREATED"),
};

const UPDATE: Operation = Operation {
    success: |sent, taken| recorded(sent, taken, "CUSTOMER_UPDATED"),
    ..CREATE
};

const DELETE: Operation = Operation {
    site_key: "site_key",
    fields: &[
        required("site_key", filled_text),
        required("user_id", filled_text),
        required("customer_id", filled_text),
    ],
    refusal: [
        ("customer_id", "Enter a valid customer id."),
        ("non_field_errors", "The customer could not be deleted."),
    ],
    // As the framework answers a delete.
    success: |_, _| Answer::json(StatusCode::NO_CONTENT, ""),
};

fn recorded(sent: &Sent, taken: Taken, kind: &str) -> Answer {
    let properties = match sent.json("custom_properties") {
        "null" => String::new(),
        properties => format!(r#","custom_properties":{properties}"#),
    };
    let data = format!(
        r#"{{"customer":{{"id":{},"email":{},"user_id":{},"image_url":{},"last_name":{},"first_name":{},"has_payment_method":{}}}{properties}}}"#,
        sent.json("customer_id"),
        sent.json("customer_email"),
        sent.json("user_id"),
        sent.json("customer_image_url"),
        sent.json("customer_last_name"),
        sent.json("customer_first_name"),
        sent.json("customer_has_payment_method"),
    );
    taken.event(sent, kind, &data)
}
