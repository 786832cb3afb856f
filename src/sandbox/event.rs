//! The event that a successful call is answered with: same names, order, types and units as the
//! worked example of rest-api.md §1.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value};
use sha1::{Digest, Sha1};

use super::fields::CustomerWrite;

/// What happened to the customer.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) enum Change {
    #[serde(rename = "CUSTOMER_CREATED")]
    Created,
    #[serde(rename = "CUSTOMER_UPDATED")]
    Updated,
}

#[derive(Serialize)]
pub(super) struct Envelope<'a> {
    success: bool,
    data: Record<'a>,
}

#[derive(Serialize)]
struct Record<'a> {
    id: i64,
    event_provider: &'static str,
    site_user: SiteUser,
    site_hash: &'a str,
    session_id: String,
    /// Unix milliseconds.
    event_date: i64,
    event_value: String,
    event_type: &'static str,
    event_meta: Meta<'a>,
    /// Unix milliseconds.
    updated: i64,
    /// Unix milliseconds.
    created: i64,
}

/// An open object in the real API; nothing is known that stands in it.
#[derive(Serialize)]
struct SiteUser {}

#[derive(Serialize)]
struct Meta<'a> {
    data: Data<'a>,
    r#type: Change,
    /// Unix seconds, unlike every other time of the reply.
    created: i64,
}

#[derive(Serialize)]
struct Data<'a> {
    customer: Customer<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_properties: Option<&'a Map<String, Value>>,
}

#[derive(Serialize)]
struct Customer<'a> {
    id: &'a str,
    email: &'a str,
    user_id: &'a str,
    image_url: Option<&'a str>,
    last_name: Option<&'a str>,
    first_name: Option<&'a str>,
    has_payment_method: bool,
}

/// The reply to `write`, taken at `now` (Unix milliseconds).
pub(super) fn envelope(id: i64, change: Change, write: &CustomerWrite, now: i64) -> Envelope<'_> {
    Envelope {
        success: true,
        data: Record {
            id,
            event_provider: "API",
            site_user: SiteUser {},
            site_hash: &write.site_key,
            session_id: format!("{}-{}", write.site_key, now.div_euclid(1000)),
            event_date: write.event_date * 1000,
            event_value: event_value(id, write),
            event_type: "PROVIDER_EVENT",
            event_meta: Meta {
                data: data(write),
                r#type: change,
                created: write.event_date,
            },
            updated: now,
            created: now,
        },
    }
}

/// The wall clock, in Unix milliseconds.
pub(super) fn now_millis() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "events bear the time of day")]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

fn data(write: &CustomerWrite) -> Data<'_> {
    Data {
        customer: Customer {
            id: &write.id,
            email: &write.email,
            user_id: &write.user_id,
            image_url: write.image_url.as_deref(),
            last_name: write.last_name.as_deref(),
            first_name: write.first_name.as_deref(),
            has_payment_method: write.has_payment_method,
        },
        custom_properties: write.custom_properties.as_ref(),
    }
}

/// 40 hex digits that differ from event to event. What the real API hashes is not known.
fn event_value(id: i64, write: &CustomerWrite) -> String {
    let mut hash = Sha1::new();
    hash.update(id.to_be_bytes());
    hash.update(&write.site_key);
    hash.update([0]);
    hash.update(&write.id);
    let digits = b"0123456789abcdef";
    let halves = hash
        .finalize()
        .into_iter()
        .flat_map(|byte| [byte >> 4, byte & 15]);
    halves
        .map(|half| char::from(digits[usize::from(half)]))
        .collect()
}
