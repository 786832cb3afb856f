//! Metrics of the connections to OnboardFlow: how many there are, why they are dialled and what comes of it,
//! and how long calls wait for one. Knows no call.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::Registry,
};

use tokio::time::Instant;

use super::{add, add_seconds, histogram::Histogram};

/// Why a connection is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialReason {
    /// A call waits for it.
    Call,
    /// There has been none yet.
    Start,
    /// The last one ended.
    Closed,
    /// The last one that was ready was taken into use.
    Taken,
    /// Those that are ready are old.
    Aged,
    /// Those that are ready lead to addresses that the name has no more.
    Moved,
}

/// What came of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialResult {
    /// A connection.
    Connected,
    /// The name has no address, or nobody took the connection.
    Unreachable,
    /// No handshake of TLS or HTTP, or none that is to be trusted.
    HandshakeFailed,
    /// Not within `--connect-timeout`.
    TimedOut,
}

impl DialReason {
    fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Start => "start",
            Self::Closed => "closed",
            Self::Taken => "taken",
            Self::Aged => "aged",
            Self::Moved => "moved",
        }
    }
}

impl DialResult {
    fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Unreachable => "unreachable",
            Self::HandshakeFailed => "handshake_failed",
            Self::TimedOut => "timed_out",
        }
    }
}

/// How many connections one worker has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    /// Open, and without a call.
    pub warm: usize,
    /// Open, with calls.
    pub in_use: usize,
    /// On their way.
    pub dialling: usize,
}

type Count = Box<dyn Fn() -> Option<Census> + Send + Sync>;

/// Metrics of the connections to OnboardFlow, over all workers.
#[derive(Clone, Debug, Default)]
pub struct OutwardConnections {
    dials: Family<[(&'static str, &'static str); 2], Counter>,
    waits: Histogram,
    workers: Workers,
}

/// Counts the connections of each worker when it is asked, so that calls need not.
#[derive(Clone, Default)]
struct Workers(Arc<Mutex<Vec<Count>>>);

impl OutwardConnections {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let workers = Workers::default();
        registry.register_collector(Box::new(workers.clone()));
        Self {
            dials: add(
                registry,
                "upstream_dials",
                "Connections to OnboardFlow that were dialled, by reason and by what came of it",
            ),
            waits: add_seconds(
                registry,
                "upstream_connection_wait",
                "How long calls waited for a connection to OnboardFlow, where none was ready",
            ),
            workers,
        }
    }

    /// Counts a dial that is over.
    pub fn dialled(&self, reason: DialReason, result: DialResult) {
        let labels = [("reason", reason.name()), ("result", result.name())];
        self.dials.get_or_create(&labels).inc();
    }

    /// Counts a call as one that waited, until what is returned is dropped.
    #[must_use]
    pub fn waits(&self) -> Waiting<'_> {
        Waiting {
            waits: &self.waits,
            since: Instant::now(),
        }
    }

    /// Shows a worker's connections too, until it has none to tell of.
    pub fn count(&self, worker: impl Fn() -> Option<Census> + Send + Sync + 'static) {
        let mut workers = self
            .workers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        workers.push(Box::new(worker));
    }
}

/// A call that waits for a connection.
#[derive(Debug)]
pub struct Waiting<'a> {
    waits: &'a Histogram,
    since: Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waits.observe(self.since.elapsed());
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Collector for Workers {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut all = Census::default();
        let mut workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| {
            let census = worker();
            let Census {
                warm,
                in_use,
                dialling,
            } = census.unwrap_or_default();
            all.warm += warm;
            all.in_use += in_use;
            all.dialling += dialling;
            census.is_some()
        });
        let mut family = encoder.encode_descriptor(
            "upstream_connections",
            "Connections to OnboardFlow, by what they do",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in [
            ("warm", all.warm),
            ("in_use", all.in_use),
            ("dialling", all.dialling),
        ] {
            let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            count.encode(family.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }
}
