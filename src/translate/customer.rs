//! `CreateCustomer`, `UpdateCustomer` and `DeleteCustomer`: the customer in protobuf ↔ the customer in JSON.
//! Knows neither callers nor connections.

use http::{Method, uri::PathAndQuery};
use prost_types::Struct;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    Operation,
    envelope::{Event, Meta},
    json::{self, AsJson, FromJson},
    path::Path,
    rejection::FieldPaths,
    rules,
    time::timestamp,
};
use crate::{
    error::{Error, Violation},
    proto::{
        CreateCustomerRequest, CreateCustomerResponse, Customer, CustomerEvent,
        DeleteCustomerRequest, DeleteCustomerResponse, EventData, EventMeta, UpdateCustomerRequest,
        UpdateCustomerResponse,
    },
    rest::{Call, Effect, Intent, Names},
};

/// The trailing slash is part of it.
const TEMPLATE: &str = "/api/v1/customer/";
const PATH: PathAndQuery = PathAndQuery::from_static(TEMPLATE);

/// `CreateCustomer`: `POST /api/v1/customer/`.
#[derive(Debug)]
pub struct Create;

impl Operation for Create {
    type Request = CreateCustomerRequest;
    type Response = CreateCustomerResponse;

    const INTENT: Intent = Intent {
        effect: Effect::Creates,
        may_have: "the customer may have been created",
    };
    const FIELD_PATHS: FieldPaths = field_path;

    fn encode(request: CreateCustomerRequest) -> Result<Call, Error> {
        encode(request, Method::POST)
    }
}

/// `UpdateCustomer`: `PUT /api/v1/customer/`.
#[derive(Debug)]
pub struct Update;

impl Operation for Update {
    type Request = UpdateCustomerRequest;
    type Response = UpdateCustomerResponse;

    const INTENT: Intent = Intent {
        effect: Effect::Updates,
        may_have: "the customer may have been updated",
    };
    const FIELD_PATHS: FieldPaths = field_path;

    fn encode(request: UpdateCustomerRequest) -> Result<Call, Error> {
        encode(request.into(), Method::PUT)
    }
}

/// `DeleteCustomer`: `DELETE /api/v1/customer/`.
#[derive(Debug)]
pub struct Delete;

impl Operation for Delete {
    type Request = DeleteCustomerRequest;
    type Response = DeleteCustomerResponse;

    const INTENT: Intent = Intent {
        effect: Effect::Deletes,
        may_have: "the customer may have been deleted",
    };
    const FIELD_PATHS: FieldPaths = |json_name| match json_name {
        "site_key" => Some("site_key"),
        "user_id" => Some("user_id"),
        "customer_id" => Some("customer_id"),
        _ => None,
    };

    fn encode(request: DeleteCustomerRequest) -> Result<Call, Error> {
        let mut found = Vec::new();
        rules::text("site_key", &request.site_key, &mut found);
        rules::text("customer_id", &request.customer_id, &mut found);
        rules::text("user_id", &request.user_id, &mut found);
        rules::request_id(&request.request_id, &mut found);
        if !found.is_empty() {
            return Err(Error::invalid(found));
        }
        let body = super::body(&DeleteBody {
            site_key: &request.site_key,
            user_id: &request.user_id,
            customer_id: &request.customer_id,
        })?;
        Ok(Call {
            method: Method::DELETE,
            path: PATH,
            template: TEMPLATE,
            names: Names::of([("customer", request.customer_id)]),
            site_key: request.site_key,
            body: Some(body),
            request_id: rules::named(request.request_id),
        })
    }
}

/// The JSON that a delete sends.
#[derive(Serialize)]
struct DeleteBody<'a> {
    site_key: &'a str,
    user_id: &'a str,
    customer_id: &'a str,
}

/// An update holds what a create does.
impl From<UpdateCustomerRequest> for CreateCustomerRequest {
    fn from(update: UpdateCustomerRequest) -> Self {
        Self {
            site_key: update.site_key,
            event_date: update.event_date,
            customer: update.customer,
            custom_properties: update.custom_properties,
            request_id: update.request_id,
        }
    }
}

/// The JSON that a create and an update send.
#[derive(Serialize)]
struct Body<'a> {
    site_key: &'a str,
    /// Unix seconds.
    event_date: i64,
    user_id: &'a str,
    customer_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_first_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_last_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_image_url: Option<&'a str>,
    customer_has_payment_method: bool,
    customer_email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_properties: Option<AsJson<'a, Struct>>,
}

/// Where in the proto a field of [`Body`] comes from.
fn field_path(json_name: &str) -> Option<&'static str> {
    Some(match json_name {
        "site_key" => "site_key",
        "event_date" => "event_date",
        "user_id" => "customer.user_id",
        "customer_id" => "customer.id",
        "customer_first_name" => "customer.first_name",
        "customer_last_name" => "customer.last_name",
        "customer_image_url" => "customer.image_url",
        "customer_has_payment_method" => "customer.has_payment_method",
        "customer_email" => "customer.email",
        "custom_properties" => "custom_properties",
        _ => return None,
    })
}

fn encode(request: CreateCustomerRequest, method: Method) -> Result<Call, Error> {
    let violations = violations(&request);
    if !violations.is_empty() {
        return Err(Error::invalid(violations));
    }
    let customer = request.customer.unwrap_or_default();
    let body = Body {
        site_key: &request.site_key,
        // A Timestamp's nanoseconds count forwards, before 1970 too, so its seconds are already
        // rounded towards the past.
        event_date: request.event_date.unwrap_or_default().seconds,
        user_id: &customer.user_id,
        customer_id: &customer.id,
        customer_first_name: customer.first_name.as_deref(),
        customer_last_name: customer.last_name.as_deref(),
        customer_image_url: customer.image_url.as_deref(),
        customer_has_payment_method: customer.has_payment_method.unwrap_or_default(),
        customer_email: &customer.email,
        custom_properties: request.custom_properties.as_ref().map(AsJson),
    };
    let body = super::body(&body)?;
    Ok(Call {
        method,
        path: PATH,
        template: TEMPLATE,
        names: Names::of([("customer", customer.id)]),
        site_key: request.site_key,
        body: Some(body),
        request_id: rules::named(request.request_id),
    })
}

/// Every rule that the request breaks.
fn violations(request: &CreateCustomerRequest) -> Vec<Violation> {
    let mut found = Vec::new();
    rules::text("site_key", &request.site_key, &mut found);
    rules::required_time("event_date", request.event_date.as_ref(), &mut found);
    match &request.customer {
        None => found.push(Violation::new("customer", "is required")),
        Some(customer) => customer_violations(customer, &mut found),
    }
    if let Some(properties) = &request.custom_properties {
        let path = Path::Field(&Path::Root, "custom_properties");
        json::violations(path, properties, &mut found);
    }
    rules::request_id(&request.request_id, &mut found);
    found
}

fn customer_violations(customer: &Customer, found: &mut Vec<Violation>) {
    rules::text("customer.id", &customer.id, found);
    rules::text("customer.user_id", &customer.user_id, found);
    rules::text("customer.email", &customer.email, found);
    // An empty one is sent as it is: that is how a picture is taken away.
    if let Some(url) = customer.image_url.as_deref().filter(|url| !url.is_empty())
        && !is_web_address(url)
    {
        found.push(Violation::new(
            "customer.image_url",
            "must be an absolute http or https URL",
        ));
    }
    if customer.has_payment_method.is_none() {
        found.push(Violation::new(
            "customer.has_payment_method",
            "is required: say true or false",
        ));
    }
}

/// The text goes out as it is, so it has to be right as it is: the parser alone mends what it reads
/// as browsers do (`http:host`, `https:///host`, spaces around it).
fn is_web_address(url: &str) -> bool {
    let names_host = |(_, rest): (&str, &str)| !rest.starts_with(['/', '\\']);
    url.split_once("://").is_some_and(names_host)
        && !url.contains(|c: char| c.is_whitespace() || c.is_control())
        && Url::parse(url)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// `event_meta.data` of a customer's event.
#[derive(Debug, Deserialize)]
struct EventDataJson {
    customer: Option<CustomerJson>,
    custom_properties: Option<FromJson>,
}

/// A customer as events have it: without the prefix that requests have.
#[derive(Debug, Deserialize)]
struct CustomerJson {
    id: Option<String>,
    email: Option<String>,
    user_id: Option<String>,
    image_url: Option<String>,
    last_name: Option<String>,
    first_name: Option<String>,
    has_payment_method: Option<bool>,
}

responses!(
    CreateCustomerResponse, UpdateCustomerResponse, DeleteCustomerResponse: customer_event, names
);

fn names(event: &CustomerEvent) -> [(&'static str, &str); 2] {
    let meta = event.event_meta.as_ref();
    let data = meta.and_then(|meta| meta.data.as_ref());
    let customer = data.and_then(|data| data.customer.as_ref());
    let (id, user) = customer.map_or(("", ""), |named| (&*named.id, &*named.user_id));
    [("customer", id), ("user", user)]
}

fn customer_event(event: Box<Event<Meta<EventDataJson>>>) -> Result<CustomerEvent, Error> {
    Ok(CustomerEvent {
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
            Some(meta) => Some(EventMeta {
                data: meta.data.map(EventData::from),
                r#type: meta.r#type.unwrap_or_default(),
                created: timestamp("event_meta.created", meta.created)?,
            }),
        },
        updated: timestamp("updated", event.updated)?,
        created: timestamp("created", event.created)?,
    })
}

impl From<EventDataJson> for EventData {
    fn from(data: EventDataJson) -> Self {
        Self {
            customer: data.customer.map(Customer::from),
            custom_properties: data.custom_properties.map(|properties| properties.0),
        }
    }
}

impl From<CustomerJson> for Customer {
    fn from(customer: CustomerJson) -> Self {
        Self {
            id: customer.id.unwrap_or_default(),
            user_id: customer.user_id.unwrap_or_default(),
            email: customer.email.unwrap_or_default(),
            first_name: customer.first_name,
            last_name: customer.last_name,
            image_url: customer.image_url,
            has_payment_method: customer.has_payment_method,
        }
    }
}

#[cfg(test)]
mod tests;
