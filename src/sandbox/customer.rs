//! The customer resource: create, update and delete.

use axum::{Router, extract::State, response::Response, routing::post};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    OnboardFlow,
    answer::Answer,
    event::Taken,
    fields::{
        Field, Write, boolean, email, filled_text, object, optional, required, seconds, text, url,
    },
    gate::Checked,
    resource,
};

/// What a create and an update carry. Written, it is the customer of an event.
#[derive(Deserialize, Serialize)]
pub(super) struct Customer {
    #[serde(skip_serializing)]
    site_key: String,
    /// Unix seconds.
    #[serde(skip_serializing)]
    event_date: i64,
    #[serde(rename(deserialize = "customer_id"))]
    id: String,
    #[serde(rename(deserialize = "customer_email"))]
    email: String,
    user_id: String,
    #[serde(rename(deserialize = "customer_image_url"))]
    image_url: Option<String>,
    #[serde(rename(deserialize = "customer_last_name"))]
    last_name: Option<String>,
    #[serde(rename(deserialize = "customer_first_name"))]
    first_name: Option<String>,
    #[serde(rename(deserialize = "customer_has_payment_method"))]
    has_payment_method: bool,
    #[serde(skip_serializing)]
    custom_properties: Option<Map<String, Value>>,
}

#[derive(Serialize)]
struct Data<'a> {
    customer: &'a Customer,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_properties: Option<&'a Map<String, Value>>,
}

impl Write for Customer {
    const FIELDS: &'static [Field] = &[
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
    const REFUSAL: [(&'static str, &'static str); 2] = [
        ("customer_email", "Enter a valid email address."),
        ("non_field_errors", "The customer could not be saved."),
    ];

    fn site_key(&self) -> &str {
        &self.site_key
    }
}

impl Customer {
    fn event(&self, kind: &'static str, taken: Taken) -> Answer {
        let data = Data {
            customer: self,
            custom_properties: self.custom_properties.as_ref(),
        };
        Answer::ok(&taken.event(&self.site_key, self.event_date, kind, data))
    }
}

/// What a delete carries.
#[derive(Deserialize)]
struct Deletion {
    site_key: String,
}

impl Write for Deletion {
    const FIELDS: &'static [Field] = &[
        required("site_key", filled_text),
        required("user_id", filled_text),
        required("customer_id", filled_text),
    ];
    const REFUSAL: [(&'static str, &'static str); 2] = [
        ("customer_id", "Enter a valid customer id."),
        ("non_field_errors", "The customer could not be deleted."),
    ];

    fn site_key(&self) -> &str {
        &self.site_key
    }
}

pub(super) fn routes() -> Router<OnboardFlow> {
    resource("/api/v1/customer/", post(create).put(update).delete(delete))
}

async fn create(State(api): State<OnboardFlow>, Checked(sent): Checked<Customer>) -> Response {
    let event = |taken| sent.event("CUSTOMER_CREATED", taken);
    api.answer(&sent, event).await
}

async fn update(State(api): State<OnboardFlow>, Checked(sent): Checked<Customer>) -> Response {
    let event = |taken| sent.event("CUSTOMER_UPDATED", taken);
    api.answer(&sent, event).await
}

async fn delete(State(api): State<OnboardFlow>, Checked(sent): Checked<Deletion>) -> Response {
    api.answer(&sent, |_taken| Answer::gone()).await
}
