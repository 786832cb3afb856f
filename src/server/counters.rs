//! What the listener counts, for the metrics to read. Plain atomics, each written where the thing
//! happens.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// What the listener counts.
#[derive(Debug, Default)]
pub struct Counters {
    workers: Vec<WorkerCounters>,
    in_flight: AtomicUsize,
    closed: [AtomicU64; Closed::ALL.len()],
    /// Calls refused because of `--max-in-flight`.
    overloaded: AtomicU64,
}

/// What one worker counts.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    opened: AtomicU64,
    open: AtomicUsize,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer closed it.
    InOrder,
    /// The transport or the protocol failed; garbage on the port is that too.
    Failed,
    /// No TLS handshake, or no HTTP/2 preface, in time.
    NoHandshake,
    /// No call for `--max-connection-idle`.
    Idle,
    /// Older than `--max-connection-age`.
    Aged,
    /// The gateway drained.
    Drained,
    /// The peer doesn't read, doesn't finish what it began, or floods.
    Abusive,
}

impl Closed {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::InOrder,
        Self::Failed,
        Self::NoHandshake,
        Self::Idle,
        Self::Aged,
        Self::Drained,
        Self::Abusive,
    ];

    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InOrder => "in_order",
            Self::Failed => "failed",
            Self::NoHandshake => "no_handshake",
            Self::Idle => "idle",
            Self::Aged => "aged",
            Self::Drained => "drained",
            Self::Abusive => "abusive",
        }
    }
}

impl Counters {
    /// Counters of this many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| WorkerCounters::default()).collect(),
            ..Self::default()
        }
    }

    /// Each worker's.
    #[must_use]
    pub fn workers(&self) -> &[WorkerCounters] {
        &self.workers
    }

    /// Calls under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Calls refused because of `--max-in-flight`.
    #[must_use]
    pub fn overloaded(&self) -> u64 {
        self.overloaded.load(Relaxed)
    }

    /// Connections that ended for this reason.
    #[must_use]
    pub fn closed(&self, reason: Closed) -> u64 {
        self.closed[reason as usize].load(Relaxed)
    }

    pub(super) fn count_closed(&self, reason: Closed) {
        self.closed[reason as usize].fetch_add(1, Relaxed);
    }

    /// One more call, unless that would be more than `max`.
    pub(super) fn enter(&self, max: usize) -> bool {
        if self.in_flight.fetch_add(1, Relaxed) < max {
            return true;
        }
        self.leave();
        self.overloaded.fetch_add(1, Relaxed);
        false
    }

    pub(super) fn leave(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

impl WorkerCounters {
    /// Connections so far.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Connections now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    pub(super) fn count_opened(&self) {
        self.opened.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
    }

    pub(super) fn count_closed(&self) {
        self.open.fetch_sub(1, Relaxed);
    }
}
