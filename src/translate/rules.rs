//! Rules that the requests of several resources share. Knows none of them.

use prost_types::Timestamp;
use uuid::{Uuid, fmt::Hyphenated};

use super::time::TIMESTAMP_SECONDS;
use crate::error::Violation;

/// A text that has to say something.
pub(super) fn text(field: &'static str, value: &str, found: &mut Vec<Violation>) {
    if value.chars().all(char::is_whitespace) {
        found.push(Violation::new(field, "is required, and may not be blank"));
    }
}

/// A caller's name for a write, where it gives one.
pub(super) fn request_id(id: &str, found: &mut Vec<Violation>) {
    let mut canonical = [0; Hyphenated::LENGTH];
    let is_canonical = |uuid: Uuid| uuid.hyphenated().encode_lower(&mut canonical) == id;
    let named = Uuid::parse_str(id).ok().filter(|uuid| !uuid.is_nil());
    if !id.is_empty() && !named.is_some_and(is_canonical) {
        found.push(Violation::new(
            "request_id",
            "must be a UUID in its canonical form: 36 characters, lower case, with hyphens",
        ));
    }
}

/// The name that a caller gives a write, if it gives one.
pub(super) fn named(request_id: String) -> Option<String> {
    Some(request_id).filter(|id| !id.is_empty())
}

/// A time that has to be there.
pub(super) fn required_time(
    field: &'static str,
    time: Option<&Timestamp>,
    found: &mut Vec<Violation>,
) {
    match time {
        None => found.push(Violation::new(field, "is required")),
        Some(_) => self::time(field, time, found),
    }
}

/// A time that has to be one, where it is there.
pub(super) fn time(field: &'static str, time: Option<&Timestamp>, found: &mut Vec<Violation>) {
    let Some(time) = time else { return };
    let rule = if !TIMESTAMP_SECONDS.contains(&time.seconds) {
        "must be between 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999999Z"
    } else if !(0..1_000_000_000).contains(&time.nanos) {
        "must have nanos between 0 and 999999999"
    } else {
        return;
    };
    found.push(Violation::new(field, rule));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_in_its_canonical_form() {
        let refused = |id: &str| {
            let mut found = Vec::new();
            request_id(id, &mut found);
            !found.is_empty()
        };
        for good in [
            "",
            "b6f3f1d2-0c6e-4d7a-9a51-3f0a2f6f8f10",
            "0190b5a3-7c1e-7f00-8000-000000000001",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ] {
            assert!(!refused(good), "{good}");
        }
        for bad in [
            " ",
            "order-17",
            "B6F3F1D2-0C6E-4D7A-9A51-3F0A2F6F8F10",
            "b6f3f1d20c6e4d7a9a513f0a2f6f8f10",
            "{b6f3f1d2-0c6e-4d7a-9a51-3f0a2f6f8f10}",
            "urn:uuid:b6f3f1d2-0c6e-4d7a-9a51-3f0a2f6f8f10",
            "b6f3f1d2-0c6e-4d7a-9a51-3f0a2f6f8f10 ",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert!(refused(bad), "{bad}");
        }
    }
}
