//! What an operator sees: metrics, traces and the log. `server/access_log.rs` feeds all three, once a
//! call; `upstream` adds what it knows of each attempt.
//!
//! Nothing here may hold what a customer is or what a caller wrote. A metric's labels come from sets
//! that are known when the gateway starts, or are bounded where they are made.

mod attempt;
mod callers;
mod calls;
mod connections;
mod histogram;
mod ledger;
pub mod logs;
pub mod otlp;
mod outward;
mod process;
mod rows;
mod secrets;
pub mod traces;
mod unknown_fields;
mod upstream;

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{
        prometheus_protobuf::{self, prometheus_data_model::MetricFamily},
        text,
    },
    metrics::info::Info,
    registry::{Metric, Registry, Unit},
};

pub(crate) use self::calls::code_name;
pub use self::{
    attempt::Attempt,
    callers::CallerMetrics,
    calls::{Calls, Method},
    connections::{Closed, Connections, Open, WorkerConnections},
    ledger::LedgerMetrics,
    outward::{Census, DialReason, DialResult, OutwardConnections},
    secrets::{Secret, Secrets},
    traces::Tracer,
    upstream::{Attempts, BreakerState, UpstreamMetrics},
};

/// What calls are seen with: handed to whatever takes calls.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// Counts.
    pub metrics: Metrics,
    /// Traces.
    pub tracer: Tracer,
}

/// The content type of [`Metrics::encode`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of the gateway. Clones are handles of the same ones, and recording is an atomic add.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Calls, from the caller's side.
    pub calls: Calls,
    /// Calls by caller.
    pub callers: CallerMetrics,
    /// Connections of callers.
    pub connections: Connections,
    /// Attempts at OnboardFlow, and what guards it.
    pub upstream: UpstreamMetrics,
    /// Connections to OnboardFlow.
    pub outward: OutwardConnections,
    /// The API key and certificates.
    pub secrets: Secrets,
    registry: Arc<RwLock<Registry>>,
}

impl Metrics {
    /// All of them, at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let calls = Calls::new(&mut registry);
        let own = registry.sub_registry_with_prefix("onboardflow_gateway");
        let build = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("arch", std::env::consts::ARCH),
        ];
        own.register("build", "The gateway that runs", Info::new(build.to_vec()));
        let callers = CallerMetrics::new(own);
        let connections = Connections::new(own);
        let secrets = Secrets::new(own);
        let outward = OutwardConnections::new(own);
        let upstream = UpstreamMetrics::new(&mut registry);
        registry.register_collector(Box::new(process::Process));
        Self {
            calls,
            callers,
            connections,
            upstream,
            outward,
            secrets,
            registry: Arc::new(RwLock::new(registry)),
        }
    }

    /// Those of a ledger, from now on.
    pub fn ledger(&self) -> LedgerMetrics {
        let registry = self.registry.write();
        let mut registry = registry.unwrap_or_else(PoisonError::into_inner);
        LedgerMetrics::new(registry.sub_registry_with_prefix("onboardflow_gateway"))
    }

    /// Shows at each scrape what this collector reads: what is kept elsewhere.
    pub fn collect(&self, collector: impl Collector) {
        let registry = self.registry.write();
        registry
            .unwrap_or_else(PoisonError::into_inner)
            .register_collector(Box::new(collector));
    }

    /// All of them, as messages.
    fn snapshot(&self) -> Result<Vec<MetricFamily>, fmt::Error> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        prometheus_protobuf::encode(&registry)
    }

    /// All of them, as [`OPENMETRICS`].
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Adds an instrument, at zero, and returns a handle of it.
fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let instrument = M::default();
    registry.register(name, help, instrument.clone());
    instrument
}

/// The same of one that is in seconds.
fn add_seconds<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let instrument = M::default();
    registry.register_with_unit(name, help, Unit::Seconds, instrument.clone());
    instrument
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
