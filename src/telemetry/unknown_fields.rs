//! Fields of replies that the gateway doesn't know, counted by path: the sign that the API has grown.
//!
//! The names are OnboardFlow's to choose, and an object may be keyed by what customers wrote. So a path
//! is a label only where it looks like one that a programmer chose, and only so many are.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tracing::info;

/// Most paths that are told apart.
const MAX_PATHS: usize = 64;
/// Longest path that is told.
const MAX_LENGTH: usize = 80;
/// What stands for all others.
const OTHER: &str = "_OTHER";

/// One reply in so many is looked at, the first one among them: an API that has grown has in all of them.
const SAMPLE: u32 = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct UnknownFields {
    family: Family<[(&'static str, String); 1], Counter>,
    by_path: Arc<Mutex<HashMap<String, Counter>>>,
    replies: Arc<AtomicU32>,
}

impl UnknownFields {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let fields = Self::default();
        registry.register(
            "reply_unknown_fields",
            "Fields that the gateway does not know, by path, in one of 64 replies of OnboardFlow",
            fields.family.clone(),
        );
        fields
    }

    /// Whether the reply that has come is one of the sample.
    pub(super) fn samples(&self) -> bool {
        self.replies.fetch_add(1, Relaxed).is_multiple_of(SAMPLE)
    }

    pub(super) fn seen(&self, path: &str) {
        let mut by_path = self.by_path.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = by_path.len() < MAX_PATHS;
        let path = safe(path).filter(|path| has_room || by_path.contains_key(path));
        let path = path.unwrap_or_else(|| OTHER.to_owned());
        let counter = by_path.entry(path).or_insert_with_key(|path| {
            info!(
                path,
                "OnboardFlow's replies have a field that the gateway does not know"
            );
            self.family.get_or_create_owned(&[("path", path.clone())])
        });
        counter.inc();
    }
}

/// A path that a programmer chose, such as `data.event_meta.version`, with `*` for each index of an
/// array.
pub(super) fn safe(path: &str) -> Option<String> {
    if path.len() > MAX_LENGTH {
        return None;
    }
    let segment = |segment: &str| {
        if !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit()) {
            return Some("*".to_owned());
        }
        let is_name = segment.starts_with(|c: char| c.is_ascii_lowercase())
            && segment.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_name.then(|| segment.to_owned())
    };
    let segments: Option<Vec<_>> = path.split('.').map(segment).collect();
    Some(segments?.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_told() {
        assert_eq!(
            safe("data.event_meta.version").as_deref(),
            Some("data.event_meta.version")
        );
        assert_eq!(
            safe("data.items.17.name").as_deref(),
            Some("data.items.*.name")
        );
        for path in [
            "data.jane@example.com",
            "data.cus_123XYZ",
            "a b",
            "",
            "data..x",
            &"x".repeat(81),
        ] {
            assert_eq!(safe(path), None, "{path}");
        }
    }

    #[test]
    fn paths_are_bounded() {
        let fields = UnknownFields::default();
        for length in 1..=MAX_LENGTH {
            fields.seen(&"x".repeat(length));
        }
        assert_eq!(fields.by_path.lock().unwrap().len(), MAX_PATHS + 1);
    }
}
