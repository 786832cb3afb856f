//! The event that a successful call is answered with: same names, order, types and units as the
//! worked example of rest-api.md §1, with the caller's own JSON in its places. Knows no resource.

use std::{
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use sha1::{Digest as _, Sha1};

use super::{answer::Answer, sent::Sent};

/// A call that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) id: i64,
    /// Unix milliseconds.
    pub(super) at: i64,
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

    /// The event of a provider, around the data that its kind of record has. All its times are in
    /// milliseconds, but for `event_meta.created`, which is in seconds.
    pub(super) fn event(self, sent: &Sent, kind: &str, data: &str) -> Answer {
        let Self { id, at } = self;
        let site = sent.json("site_key");
        let name = &site[1..site.len() - 1]; // without its quotes; it is a text, as its rule has it
        let session = at.div_euclid(1000);
        let seconds = sent.seconds("event_date").unwrap_or_default();
        let (millis, value) = (seconds * 1000, self.value(name));
        Answer::ok(format!(
            r#"{{"success":true,"data":{{"id":{id},"event_provider":"API","site_user":{{}},"site_hash":{site},"session_id":"{name}-{session}","event_date":{millis},"event_value":"{value}","event_type":"PROVIDER_EVENT","event_meta":{{"data":{data},"type":"{kind}","created":{seconds}}},"updated":{at},"created":{at}}}}}"#
        ))
    }

    /// 40 hex digits that differ from event to event. What the real API hashes is not known.
    fn value(self, site: &str) -> String {
        let hash = Sha1::digest(format!("{} {site}", self.id));
        hash.iter().fold(String::new(), |mut digits, byte| {
            // Writing to a string can't fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        })
    }
}
