//! The connections that are open, over all workers, and which of them leaves when there are too many:
//! one without a call, and of these first one that never had any.

use std::{
    fs,
    sync::{Arc, Weak},
};

use tokio_util::sync::CancellationToken;

use super::streams::Streams;

/// Descriptors that are kept for the admin port, for OnboardFlow, the ledger and files.
const KEPT: usize = 256;

/// The connections, as the acceptor knows them.
pub(super) struct Crowd {
    max: usize,
    /// In the order of their arrival. Some are gone.
    seats: Vec<Weak<Seat>>,
    /// Those that had no call when they were looked for, the latest first.
    fresh: Vec<Weak<Seat>>,
}

/// A connection's part in the crowd, for as long as it lives.
#[derive(Debug, Default)]
pub(super) struct Seat {
    pub(super) streams: Arc<Streams>,
    /// Cancelled when it has to make room.
    pub(super) leave: CancellationToken,
}

impl Crowd {
    /// Of at most so many, or of fewer where the system allows fewer files.
    pub(super) fn new(max: usize) -> Self {
        let max = match open_files() {
            Some(files) => max.min(files - KEPT.min(files / 2)),
            None => max,
        };
        Self {
            max: max.max(1),
            seats: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// How many there may be.
    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// A seat for one more, beside those that are open. None where all are busy.
    pub(super) fn admit(&mut self, open: usize) -> Option<Arc<Seat>> {
        if open >= self.max {
            self.idlest()?.leave.cancel();
        }
        if self.seats.len() >= 2 * self.max {
            self.seats.retain(|seat| seat.strong_count() > 0);
        }
        let seat = Arc::<Seat>::default();
        self.seats.push(Arc::downgrade(&seat));
        Some(seat)
    }

    fn idlest(&mut self) -> Option<Arc<Seat>> {
        if let Some(seat) = self.next_fresh() {
            return Some(seat);
        }
        // Looked for anew only when those that were found are used up: there are thousands.
        self.seats.retain(|seat| seat.strong_count() > 0);
        let seats = self.seats.iter().filter_map(Weak::upgrade);
        let idle = seats.filter(|seat| seat.is_idle());
        let (fresh, used): (Vec<_>, Vec<_>) = idle.partition(|seat| seat.streams.opened() == 0);
        self.fresh = fresh.iter().rev().map(Arc::downgrade).collect();
        self.next_fresh()
            .or_else(|| used.into_iter().min_by_key(|seat| seat.streams.opened()))
    }

    fn next_fresh(&mut self) -> Option<Arc<Seat>> {
        while let Some(seat) = self.fresh.pop() {
            if let Some(seat) = seat.upgrade().filter(|seat| seat.is_fresh()) {
                return Some(seat);
            }
        }
        None
    }
}

impl Seat {
    fn is_fresh(&self) -> bool {
        self.is_idle() && self.streams.opened() == 0
    }

    fn is_idle(&self) -> bool {
        self.streams.open() == 0 && !self.leave.is_cancelled()
    }
}

/// How many files the process may have open, where the system says so.
fn open_files() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = (limits.lines()).find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_leave_first_and_busy_ones_never() {
        let mut crowd = Crowd::new(3);
        let [used, fresh, busy] = [0, 1, 2].map(|open| crowd.admit(open).unwrap());
        drop(used.streams.call());
        let call = busy.streams.call();
        let left = || [&used, &fresh, &busy].map(|seat| seat.leave.is_cancelled());
        let fourth = crowd.admit(3).unwrap();
        assert_eq!(left(), [false, true, false]);
        let _fourth_call = fourth.streams.call();
        let fifth = crowd.admit(3).unwrap();
        assert_eq!(left(), [true, true, false]);
        let _fifth_call = fifth.streams.call();
        assert!(crowd.admit(3).is_none());
        drop(call);
        assert!(crowd.admit(3).is_some());
        assert_eq!(left(), [true, true, true]);
    }
}
