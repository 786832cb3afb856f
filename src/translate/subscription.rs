//! `CreateSubscription` and `UpdateSubscription`: the subscription in protobuf ↔ the subscription in JSON.
//! Knows neither callers nor connections.

use http::{Method, uri::PathAndQuery};
use prost_types::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Operation,
    decimal::{AsNumber, Digits, is_decimal},
    envelope::{Event, Meta},
    rejection::FieldPaths,
    rules,
    time::{Seconds, timestamp},
};
use crate::{
    error::{Error, Violation},
    proto::onboardflow::subscription::v1::{
        BillingInterval, CreateSubscriptionRequest, CreateSubscriptionResponse,
        RecordedSubscription, SubscribedCustomer, Subscription, SubscriptionEvent,
        SubscriptionEventData, SubscriptionEventMeta, SubscriptionStatus,
        UpdateSubscriptionRequest, UpdateSubscriptionResponse,
    },
    rest::{Call, Effect, Intent, Names},
};

/// The trailing slash is part of it.
const TEMPLATE: &str = "/api/v1/subscription/";
const PATH: PathAndQuery = PathAndQuery::from_static(TEMPLATE);

/// `CreateSubscription`: `POST /api/v1/subscription/`.
#[derive(Debug)]
pub struct Create;

impl Operation for Create {
    type Request = CreateSubscriptionRequest;
    type Response = CreateSubscriptionResponse;

    const INTENT: Intent = Intent {
        effect: Effect::Creates,
        may_have: "the subscription may have been created",
    };
    const FIELD_PATHS: FieldPaths = field_path;

    fn encode(request: CreateSubscriptionRequest) -> Result<Call, Error> {
        encode(request, Method::POST)
    }
}

/// `UpdateSubscription`: `PUT /api/v1/subscription/`.
#[derive(Debug)]
pub struct Update;

impl Operation for Update {
    type Request = UpdateSubscriptionRequest;
    type Response = UpdateSubscriptionResponse;

    const INTENT: Intent = Intent {
        effect: Effect::Updates,
        may_have: "the subscription may have been updated",
    };
    const FIELD_PATHS: FieldPaths = field_path;

    fn encode(request: UpdateSubscriptionRequest) -> Result<Call, Error> {
        encode(request.into(), Method::PUT)
    }
}

/// An update holds what a create does.
impl From<UpdateSubscriptionRequest> for CreateSubscriptionRequest {
    fn from(update: UpdateSubscriptionRequest) -> Self {
        Self {
            site_key: update.site_key,
            event_date: update.event_date,
            subscription: update.subscription,
            request_id: update.request_id,
        }
    }
}

/// The JSON that both calls send.
#[derive(Serialize)]
struct Body<'a> {
    site_key: &'a str,
    /// Unix seconds, as every time of a request.
    event_date: i64,
    subscription_name: &'a str,
    customer_id: &'a str,
    subscription_id: &'a str,
    subscription_value: AsNumber<'a>,
    subscription_started_at: i64,
    subscription_trial_start: i64,
    subscription_trial_end: i64,
    subscription_currency: &'a str,
    subscription_status: &'static str,
    subscription_interval: &'static str,
}

/// Where in the proto a field of [`Body`] comes from.
fn field_path(json_name: &str) -> Option<&'static str> {
    Some(match json_name {
        "site_key" => "site_key",
        "event_date" => "event_date",
        "subscription_name" => "subscription.name",
        "customer_id" => "subscription.customer_id",
        "subscription_id" => "subscription.id",
        "subscription_value" => "subscription.value",
        "subscription_started_at" => "subscription.started_at",
        "subscription_trial_start" => "subscription.trial_start",
        "subscription_trial_end" => "subscription.trial_end",
        "subscription_currency" => "subscription.currency",
        "subscription_status" => "subscription.status",
        "subscription_interval" => "subscription.interval",
        _ => return None,
    })
}

fn encode(request: CreateSubscriptionRequest, method: Method) -> Result<Call, Error> {
    let violations = violations(&request);
    if !violations.is_empty() {
        return Err(Error::invalid(violations));
    }
    let subscription = request.subscription.unwrap_or_default();
    // A Timestamp's nanoseconds count forwards, before 1970 too, so its seconds are already
    // rounded towards the past.
    let seconds = |time: Option<Timestamp>| time.unwrap_or_default().seconds;
    let body = super::body(&Body {
        site_key: &request.site_key,
        event_date: seconds(request.event_date),
        subscription_name: &subscription.name,
        customer_id: &subscription.customer_id,
        subscription_id: &subscription.id,
        subscription_value: AsNumber(&subscription.value),
        subscription_started_at: seconds(subscription.started_at),
        subscription_trial_start: seconds(subscription.trial_start),
        subscription_trial_end: seconds(subscription.trial_end),
        subscription_currency: &subscription.currency,
        subscription_status: status_name(subscription.status).unwrap_or_default(),
        subscription_interval: interval_name(subscription.interval).unwrap_or_default(),
    })?;
    Ok(Call {
        method,
        path: PATH,
        template: TEMPLATE,
        names: Names::of([
            ("customer", subscription.customer_id),
            ("subscription", subscription.id),
        ]),
        site_key: request.site_key,
        body: Some(body),
        request_id: rules::named(request.request_id),
    })
}

/// Every rule that the request breaks.
fn violations(request: &CreateSubscriptionRequest) -> Vec<Violation> {
    let mut found = Vec::new();
    rules::text("site_key", &request.site_key, &mut found);
    rules::required_time("event_date", request.event_date.as_ref(), &mut found);
    match &request.subscription {
        None => found.push(Violation::new("subscription", "is required")),
        Some(subscription) => subscription_violations(subscription, &mut found),
    }
    rules::request_id(&request.request_id, &mut found);
    found
}

fn subscription_violations(subscription: &Subscription, found: &mut Vec<Violation>) {
    rules::text("subscription.id", &subscription.id, found);
    rules::text("subscription.customer_id", &subscription.customer_id, found);
    rules::text("subscription.name", &subscription.name, found);
    if status_name(subscription.status).is_none() {
        let rule = "is required: TRIALING, ACTIVE or CANCELLED";
        found.push(Violation::new("subscription.status", rule));
    }
    if interval_name(subscription.interval).is_none() {
        let rule = "is required: DAY, WEEK, MONTH or YEAR";
        found.push(Violation::new("subscription.interval", rule));
    }
    if !is_decimal(&subscription.value) {
        let rule = "must be a decimal number such as 49.99, in at most 64 characters";
        found.push(Violation::new("subscription.value", rule));
    }
    if !is_currency(&subscription.currency) {
        let rule = "must be three capital letters (ISO 4217)";
        found.push(Violation::new("subscription.currency", rule));
    }
    for (field, time) in [
        ("subscription.started_at", &subscription.started_at),
        ("subscription.trial_start", &subscription.trial_start),
        ("subscription.trial_end", &subscription.trial_end),
    ] {
        rules::required_time(field, time.as_ref(), found);
    }
}

fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// A status in JSON; none for one that is not said or not known.
fn status_name(status: i32) -> Option<&'static str> {
    match SubscriptionStatus::try_from(status).ok()? {
        SubscriptionStatus::Unspecified => None,
        SubscriptionStatus::Trialing => Some("trialing"),
        SubscriptionStatus::Active => Some("active"),
        SubscriptionStatus::Cancelled => Some("cancelled"),
    }
}

/// An interval in JSON; none for one that is not said or not known.
fn interval_name(interval: i32) -> Option<&'static str> {
    match BillingInterval::try_from(interval).ok()? {
        BillingInterval::Unspecified => None,
        BillingInterval::Day => Some("DAY"),
        BillingInterval::Week => Some("WEEK"),
        BillingInterval::Month => Some("MONTH"),
        BillingInterval::Year => Some("YEAR"),
    }
}

/// `event_meta.data` of a subscription's event.
#[derive(Debug, Deserialize)]
struct EventDataJson {
    customer: Option<CustomerJson>,
    subscription: Option<SubscriptionJson>,
}

#[derive(Debug, Deserialize)]
struct CustomerJson {
    id: Option<String>,
}

/// A subscription as events have it: its times in seconds, unlike those of the event around it.
#[derive(Debug, Deserialize)]
struct SubscriptionJson {
    id: Option<String>,
    name: Option<String>,
    value: Option<Digits>,
    status: Option<String>,
    currency: Option<String>,
    interval: Option<String>,
    trial_end: Option<Seconds>,
    /// The worked example has null; what else it can be isn't documented.
    product_id: Option<Digits>,
    started_at: Option<Seconds>,
    trial_start: Option<Seconds>,
}

responses!(CreateSubscriptionResponse, UpdateSubscriptionResponse: subscription_event, names);

fn names(event: &SubscriptionEvent) -> [(&'static str, &str); 2] {
    let meta = event.event_meta.as_ref();
    let data = meta.and_then(|meta| meta.data.as_ref());
    let customer = data.and_then(|data| data.customer.as_ref());
    let subscription = data.and_then(|data| data.subscription.as_ref());
    [
        ("customer", customer.map_or("", |customer| &customer.id)),
        ("subscription", subscription.map_or("", |named| &named.id)),
    ]
}

fn subscription_event(event: Box<Event<Meta<EventDataJson>>>) -> Result<SubscriptionEvent, Error> {
    Ok(SubscriptionEvent {
        id: event.id.map(|id| id.0).unwrap_or_default(),
        event_provider: event.event_provider.unwrap_or_default(),
        site_user: event.site_user.map(|user| user.0),
        site_hash: event.site_hash.unwrap_or_default(),
        session_id: event.session_id.unwrap_or_default(),
        event_date: timestamp("event_date", event.event_date)?,
        event_value: event.event_value.unwrap_or_default(),
        event_type: event.event_type.unwrap_or_default(),
        event_meta: match event.event_meta {
            None => None,
            Some(meta) => Some(SubscriptionEventMeta {
                data: meta.data.map(event_data).transpose()?,
                r#type: meta.r#type.unwrap_or_default(),
                created: timestamp("event_meta.created", meta.created)?,
            }),
        },
        updated: timestamp("updated", event.updated)?,
        created: timestamp("created", event.created)?,
    })
}

fn event_data(data: EventDataJson) -> Result<SubscriptionEventData, Error> {
    Ok(SubscriptionEventData {
        customer: data.customer.map(|customer| SubscribedCustomer {
            id: customer.id.unwrap_or_default(),
        }),
        subscription: data.subscription.map(recorded).transpose()?,
    })
}

fn recorded(json: SubscriptionJson) -> Result<RecordedSubscription, Error> {
    Ok(RecordedSubscription {
        id: json.id.unwrap_or_default(),
        name: json.name.unwrap_or_default(),
        status: json.status.unwrap_or_default(),
        interval: json.interval.unwrap_or_default(),
        value: json.value.map(|value| value.0).unwrap_or_default(),
        currency: json.currency.unwrap_or_default(),
        started_at: timestamp("subscription.started_at", json.started_at)?,
        trial_start: timestamp("subscription.trial_start", json.trial_start)?,
        trial_end: timestamp("subscription.trial_end", json.trial_end)?,
        product_id: json.product_id.map(|id| id.0),
    })
}

#[cfg(test)]
mod tests;
