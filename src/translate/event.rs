//! `RecordEvent`: what a user did, in protobuf ↔ in JSON. Knows neither callers nor connections.

use http::{Method, uri::PathAndQuery};
use prost_types::{Struct, value};
use serde::Serialize;

use super::{
    Operation,
    envelope::Event,
    json::{self, AsJson, FromJson},
    path::Path,
    rejection::FieldPaths,
    rules,
    time::timestamp,
};
use crate::{
    error::{Error, Violation},
    proto::onboardflow::event::v1::{
        EventType, EventUser, RecordEventRequest, RecordEventResponse, RecordedEvent,
    },
    rest::{Call, Effect, Intent, Names},
};

/// The trailing slash is part of it.
const TEMPLATE: &str = "/api/v1/tracker/event/";
const PATH: PathAndQuery = PathAndQuery::from_static(TEMPLATE);

/// `RecordEvent`: `POST /api/v1/tracker/event/`.
#[derive(Debug)]
pub struct Record;

impl Operation for Record {
    type Request = RecordEventRequest;
    type Response = RecordEventResponse;

    const INTENT: Intent = Intent {
        effect: Effect::Creates,
        may_have: "the event may have been recorded",
    };
    /// Those of the user have the same names in the request.
    const FIELD_PATHS: FieldPaths = |json_name| {
        Some(match json_name {
            "s" => "site_key",
            "site_user" => "user",
            "user.id" => "user.id",
            "user.customer_id" => "user.customer_id",
            "user.custom_properties" => "user.custom_properties",
            "event" => "type",
            "value" => "value",
            "meta" => "meta",
            "event_date" => "event_date",
            "session_id" => "session_id",
            _ => return None,
        })
    };

    fn encode(request: RecordEventRequest) -> Result<Call, Error> {
        let violations = violations(&request);
        if !violations.is_empty() {
            return Err(Error::invalid(violations));
        }
        let user = request.user.unwrap_or_default();
        let body = super::body(&Body {
            s: &request.site_key,
            site_user: UserJson {
                id: &user.id,
                customer_id: &user.customer_id,
                custom_properties: user.custom_properties.as_ref().map(AsJson),
            },
            event: type_name(request.r#type).unwrap_or_default(),
            value: &request.value,
            meta: request.meta.as_ref().map(AsJson),
            // A Timestamp's nanoseconds count forwards, before 1970 too, so its seconds are already
            // rounded towards the past.
            event_date: request.event_date.map(|date| date.seconds),
            session_id: Some(request.session_id.as_str()).filter(|id| !id.is_empty()),
        })?;
        Ok(Call {
            method: Method::POST,
            path: PATH,
            template: TEMPLATE,
            names: Names::of([("user", user.id), ("customer", user.customer_id)]),
            site_key: request.site_key,
            body: Some(body),
            request_id: rules::named(request.request_id),
        })
    }
}

/// The JSON that the call sends.
#[derive(Serialize)]
struct Body<'a> {
    s: &'a str,
    site_user: UserJson<'a>,
    event: &'static str,
    value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<AsJson<'a, Struct>>,
    /// Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_date: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
}

#[derive(Serialize)]
struct UserJson<'a> {
    id: &'a str,
    customer_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_properties: Option<AsJson<'a, Struct>>,
}

/// Every rule that the request breaks.
fn violations(request: &RecordEventRequest) -> Vec<Violation> {
    let mut found = Vec::new();
    rules::text("site_key", &request.site_key, &mut found);
    if type_name(request.r#type).is_none() {
        let rule = "is required: PAGE_VIEW, CLICK or CUSTOM";
        found.push(Violation::new("type", rule));
    }
    rules::text("value", &request.value, &mut found);
    match &request.user {
        None => found.push(Violation::new("user", "is required")),
        Some(user) => user_violations(user, &mut found),
    }
    if let Some(meta) = &request.meta {
        json::violations(Path::Field(&Path::Root, "meta"), meta, &mut found);
    }
    rules::time("event_date", request.event_date.as_ref(), &mut found);
    rules::request_id(&request.request_id, &mut found);
    found
}

fn user_violations(user: &EventUser, found: &mut Vec<Violation>) {
    rules::text("user.id", &user.id, found);
    rules::text("user.customer_id", &user.customer_id, found);
    if let Some(properties) = &user.custom_properties {
        let user = Path::Field(&Path::Root, "user");
        json::violations(Path::Field(&user, "custom_properties"), properties, found);
    }
}

/// A type in JSON; none for one that is not said or not known.
fn type_name(r#type: i32) -> Option<&'static str> {
    match EventType::try_from(r#type).ok()? {
        EventType::Unspecified => None,
        EventType::PageView => Some("PAGE_VIEW"),
        EventType::Click => Some("CLICK"),
        EventType::Custom => Some("CUSTOM"),
    }
}

responses!(RecordEventResponse: recorded_event, names);

fn names(event: &RecordedEvent) -> [(&'static str, &str); 2] {
    let id = |field| match &event.site_user.as_ref()?.fields.get(field)?.kind {
        Some(value::Kind::StringValue(id)) => Some(id.as_str()),
        _ => None,
    };
    [
        ("user", id("id").unwrap_or_default()),
        ("customer", id("customer_id").unwrap_or_default()),
    ]
}

/// The reply has no session, and its `event_meta` is what the caller sent as `meta`.
fn recorded_event(event: Box<Event<FromJson>>) -> Result<RecordedEvent, Error> {
    Ok(RecordedEvent {
        id: event.id.map(|id| id.0).unwrap_or_default(),
        event_provider: event.event_provider.unwrap_or_default(),
        site_user: event.site_user.map(|user| user.0),
        site_hash: event.site_hash.unwrap_or_default(),
        event_date: timestamp("event_date", event.event_date)?,
        event_value: event.event_value.unwrap_or_default(),
        event_type: event.event_type.unwrap_or_default(),
        event_meta: event.event_meta.map(|meta| meta.0),
        updated: timestamp("updated", event.updated)?,
        created: timestamp("created", event.created)?,
    })
}

#[cfg(test)]
mod tests;
