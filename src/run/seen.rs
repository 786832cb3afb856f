//! What an operator sees of a process that serves: its log, metrics, traces and admin port. Knows nothing of
//! calls.

use std::{net::SocketAddr, sync::Arc};

use onboardflow_gateway::{
    admin::Admin,
    config::{Effective, ProcessConfig},
    error::Source,
    ledger::Ledger,
    port,
    server::Health,
    telemetry::{
        Metrics, Telemetry, Tracer,
        logs::{self, Log},
        otlp, traces,
    },
};
use tracing::info;

use crate::Failure;

/// What an operator sees of the process.
pub(crate) struct Seen {
    pub(crate) telemetry: Telemetry,
    spans: Option<traces::Exporting>,
    metrics: Option<otlp::Exporting>,
    log: Log,
    config: Arc<str>,
}

impl Seen {
    pub(crate) fn start(process: &ProcessConfig, effective: &Effective) -> Result<Self, Failure> {
        let log = logs::start(&process.log);
        let config = effective.to_json();
        let version = env!("CARGO_PKG_VERSION");
        let tracing = process.exports.traces;
        info!(version, tracing, config, "starting");
        let (tracer, spans) = if process.exports.traces {
            let (tracer, exporting) = Tracer::from_environment()?;
            (tracer, Some(exporting))
        } else {
            (Tracer::default(), None)
        };
        let telemetry = Telemetry {
            metrics: Metrics::new(),
            tracer,
        };
        telemetry.metrics.collect(log.dropped.clone());
        let metrics = process.exports.metrics.clone();
        let metrics = metrics
            .map(|export| otlp::Exporting::start(export, telemetry.metrics.clone()))
            .transpose()?;
        Ok(Self {
            telemetry,
            spans,
            metrics,
            log,
            config: config.into(),
        })
    }

    pub(crate) async fn show(
        &self,
        address: SocketAddr,
        health: &Health,
        ledger: Option<Ledger>,
    ) -> Result<(), Source> {
        let listener = port::open("admin-listen", address).await?;
        info!(address = %listener.local_addr()?, "admin port");
        let admin = Admin {
            ledger,
            metrics: self.telemetry.metrics.clone(),
            health: health.clone(),
            log: self.log.control.clone(),
            config: Arc::clone(&self.config),
        };
        tokio::spawn(admin.serve(listener));
        Ok(())
    }

    pub(crate) fn stop(self, result: Result<(), Failure>) -> Result<(), Failure> {
        if let Some(exporting) = self.spans {
            exporting.stop();
        }
        if let Some(exporting) = self.metrics {
            exporting.stop();
        }
        info!("stopped");
        result
    }
}
