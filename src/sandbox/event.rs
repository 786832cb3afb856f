//! The event that a successful call is answered with: same names, order, types and units as the
//! worked example of rest-api.md §1.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use sha1::{Digest as _, Sha1};

/// A call that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) id: i64,
    /// Unix milliseconds.
    pub(super) at: i64,
}

/// The reply around an event.
#[derive(Serialize)]
pub(super) struct Envelope<E> {
    success: bool,
    data: E,
}

/// The event of a provider, around the data that its kind of record has.
#[expect(clippy::struct_field_names, reason = "the names are the JSON's")]
#[derive(Serialize)]
pub(super) struct Event<'a, D> {
    id: i64,
    event_provider: &'static str,
    site_user: SiteUser,
    site_hash: &'a str,
    session_id: String,
    /// Unix milliseconds.
    event_date: i64,
    event_value: String,
    event_type: &'static str,
    event_meta: Meta<D>,
    /// Unix milliseconds.
    updated: i64,
    /// Unix milliseconds.
    created: i64,
}

/// An open object in the real API; nothing is known that stands in it.
#[derive(Serialize)]
struct SiteUser {}

#[derive(Serialize)]
struct Meta<D> {
    data: D,
    r#type: &'static str,
    /// Unix seconds, unlike every other time of the reply.
    created: i64,
}

impl<E> Envelope<E> {
    pub(super) fn around(event: E) -> Self {
        Self {
            success: true,
            data: event,
        }
    }
}

impl Taken {
    pub(super) fn now(id: i64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "events bear the time of day")]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = since_epoch.map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        });
        Self { id, at }
    }

    /// The reply to a call for this site. `event_date` is in Unix seconds.
    pub(super) fn event<'a, D>(
        self,
        site_key: &'a str,
        event_date: i64,
        kind: &'static str,
        data: D,
    ) -> Envelope<Event<'a, D>> {
        Envelope::around(Event {
            id: self.id,
            event_provider: "API",
            site_user: SiteUser {},
            site_hash: site_key,
            session_id: format!("{site_key}-{}", self.at.div_euclid(1000)),
            event_date: event_date * 1000,
            event_value: self.value(site_key),
            event_type: "PROVIDER_EVENT",
            event_meta: Meta {
                data,
                r#type: kind,
                created: event_date,
            },
            updated: self.at,
            created: self.at,
        })
    }

    /// 40 hex digits that differ from event to event. What the real API hashes is not known.
    fn value(self, site_key: &str) -> String {
        let hash = Sha1::digest(format!("{} {site_key}", self.id));
        hash.iter().fold(String::new(), |mut digits, byte| {
            // Writing to a string can't fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        })
    }
}
