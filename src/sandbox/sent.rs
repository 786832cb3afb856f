//! A call that passed the checks. Knows no resource.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// What a call carries, each field as it came.
#[derive(Deserialize)]
pub(super) struct Sent(HashMap<String, Box<RawValue>>);

impl Sent {
    /// The JSON of a field; `null` where it is missing.
    pub(super) fn json(&self, name: &str) -> &str {
        self.0.get(name).map_or("null", |value| value.get())
    }

    pub(super) fn text(&self, name: &str) -> String {
        serde_json::from_str(self.json(name)).unwrap_or_default()
    }

    pub(super) fn seconds(&self, name: &str) -> Option<i64> {
        self.json(name).parse().ok()
    }
}
