//! Rules that the requests of several resources share.

use prost_types::Timestamp;

use super::time::TIMESTAMP_SECONDS;
use crate::error::Violation;

/// A text that has to say something.
pub(super) fn text(field: &'static str, value: &str, found: &mut Vec<Violation>) {
    if value.trim().is_empty() {
        found.push(Violation::new(field, "is required, and may not be blank"));
    }
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
