//! Metrics of callers' connections, and of the calls of health and reflection. Knows no caller.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::add;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer closed it.
    InOrder,
    /// The transport or the protocol failed; garbage on the port is that too.
    Failed,
    /// TLS failed: the two don't trust each other, or have no version in common.
    TlsFailed,
    /// No TLS handshake, or no HTTP/2 preface, in time.
    NoHandshake,
    /// No call for `--max-connection-idle`.
    Idle,
    /// Without a call when there were more than `--max-connections`, or one too many with all busy.
    Crowded,
    /// Older than `--max-connection-age`.
    Aged,
    /// The gateway drained.
    Drained,
    /// The peer doesn't read, doesn't finish what it began, or floods.
    Abusive,
}

impl Closed {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::InOrder,
        Self::Failed,
        Self::TlsFailed,
        Self::NoHandshake,
        Self::Idle,
        Self::Crowded,
        Self::Aged,
        Self::Drained,
        Self::Abusive,
    ];

    /// The value of a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::InOrder => "in_order",
            Self::Failed => "failed",
            Self::TlsFailed => "tls_failed",
            Self::NoHandshake => "no_handshake",
            Self::Idle => "idle",
            Self::Crowded => "crowded",
            Self::Aged => "aged",
            Self::Drained => "drained",
            Self::Abusive => "abusive",
        }
    }
}

type ByWorker<M> = Family<[(&'static str, usize); 1], M>;

/// Metrics of callers' connections.
#[derive(Clone, Debug)]
pub struct Connections {
    open: ByWorker<Gauge>,
    opened: ByWorker<Counter>,
    closed: [Counter; Closed::ALL.len()],
    health: Gauge,
    health_opened: Counter,
    health_refused: Counter,
}

/// One worker's connections.
#[derive(Clone, Debug)]
pub struct WorkerConnections {
    open: Gauge,
    opened: Counter,
}

impl Connections {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let reasons: Family<[(&'static str, &'static str); 1], Counter> = add(
            registry,
            "connections_closed",
            "Connections that ended, by reason",
        );
        Self {
            open: add(
                registry,
                "connections",
                "Connections of callers that are open",
            ),
            opened: add(
                registry,
                "connections_opened",
                "Connections that callers opened",
            ),
            health: add(
                registry,
                "health_calls",
                "Open calls of health and reflection",
            ),
            health_opened: add(
                registry,
                "health_calls_opened",
                "Calls of health and reflection that began",
            ),
            health_refused: add(
                registry,
                "health_calls_refused",
                "Calls of health and reflection that were refused because too many were open",
            ),
            closed: Closed::ALL.map(|why| reasons.get_or_create_owned(&[("reason", why.name())])),
        }
    }

    /// Those of the worker with this number.
    pub fn of_worker(&self, index: usize) -> WorkerConnections {
        WorkerConnections {
            open: self.open.get_or_create_owned(&[("worker", index)]),
            opened: self.opened.get_or_create_owned(&[("worker", index)]),
        }
    }

    /// Counts a call of health or reflection from now until what is returned is dropped.
    #[must_use]
    pub fn health_opened(&self) -> Open {
        self.health_opened.inc();
        Open::of(&self.health)
    }

    /// Counts one for which there was no place.
    pub fn health_refused(&self) {
        self.health_refused.inc();
    }

    /// Counts one that has ended.
    pub fn closed(&self, why: Closed) {
        self.closed[why as usize].inc();
    }
}

impl WorkerConnections {
    /// Connections now.
    pub fn open(&self) -> i64 {
        self.open.get()
    }

    /// Counts a connection from now until what is returned is dropped.
    #[must_use]
    pub fn opened(&self) -> Open {
        self.opened.inc();
        Open::of(&self.open)
    }
}

/// Counts a connection or a call as open for as long as it lives.
#[derive(Debug)]
pub struct Open(Gauge);

impl Open {
    fn of(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_in_their_order() {
        for (number, why) in Closed::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, number, "{why:?}");
        }
    }
}
