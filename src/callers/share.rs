//! How a day's calls are divided among callers. Pure: they are counted in `upstream/quota`.

use std::{fmt, sync::Arc};

/// A share of 1.
const WHOLE: u64 = 1_000_000;

/// A part of a day's calls, in millionths, so that sums and products are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share(u64);

impl Share {
    /// The share that a file names, if it is one.
    pub(super) fn new(part: f64) -> Option<Self> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "between 0 and a million"
        )]
        let millionths = (0.0..=1.0)
            .contains(&part)
            .then(|| (part * WHOLE as f64).round() as u64);
        millionths.filter(|share| *share > 0).map(Self)
    }

    /// Its calls of so many a day.
    pub(super) fn of(self, daily: u64) -> u64 {
        let calls = u128::from(daily) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(calls).unwrap_or(daily)
    }

    /// Whether these are more than there is.
    pub(super) fn exceed(shares: impl Iterator<Item = Self>) -> bool {
        shares.map(|share| share.0).sum::<u64>() > WHOLE
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "a million at most")]
        let part = self.0 as f64 / WHOLE as f64;
        part.fmt(f)
    }
}

/// Whose calls are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Those of the callers of one entry, which has a share.
    Caller(Arc<str>),
    /// Those of all callers without one.
    Others,
}

/// The calls of a day that a caller may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allotment {
    /// With whom it uses them.
    pub owner: Owner,
    /// How many there are.
    pub calls: u64,
}

/// The calls of a day so far, of one API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Of everybody.
    pub all: u64,
    /// Of this owner; 0 where the day is not divided.
    pub own: u64,
}

/// What there is no more of today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// The caller's own part.
    Share,
    /// The whole day's.
    Day,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_exact() {
        for (part, daily, calls) in [
            (0.29, 100, 29),
            (0.3, 1000, 300),
            (1.0, u64::MAX, u64::MAX),
            (0.5, 3, 1),
        ] {
            assert_eq!(
                Share::new(part).unwrap().of(daily),
                calls,
                "{part} of {daily}"
            );
        }
        let tenths = || (0..10).filter_map(|_| Share::new(0.1));
        assert!(!Share::exceed(tenths()));
        assert!(Share::exceed(tenths().chain(Share::new(0.000_001))));
    }

    #[test]
    fn what_is_no_part_is_no_share() {
        for part in [0.0, -0.1, 1.01, f64::NAN, f64::INFINITY, 1e-9] {
            assert_eq!(Share::new(part), None, "{part}");
        }
    }
}
