//! `serve`: a gateway in front of OnboardFlow. What any gateway needs, whatever it calls, is [`Gateway`].

use std::io;

use futures_util::future::BoxFuture;
use onboardflow_gateway::{
    config::{ProcessConfig, ServeConfig, ServerConfig},
    error::Source,
    ledger::Ledger,
    port, proto,
    server::{self, Handles},
    service::Service,
    upstream::Upstream,
};
use tokio::net::TcpListener;

use super::{seen::Seen, signals::stop_signal};
use crate::Failure;

pub(crate) async fn serve(config: &ServeConfig, seen: &Seen) -> Result<(), Failure> {
    let ledger = match &config.ledger {
        Some(config) => Some(Ledger::follow(config, &seen.telemetry.metrics).await?),
        None => None,
    };
    let metrics = &seen.telemetry.metrics;
    let upstream = Upstream::new(&config.upstream, ledger.clone(), metrics)?;
    let gateway = Gateway::open(&config.process, seen, ledger.clone()).await?;
    Ok(gateway.run(upstream, ledger).await?)
}

/// A gateway whose ports are open, and that doesn't take calls yet.
pub(super) struct Gateway<'a> {
    config: &'a ServerConfig,
    stop: BoxFuture<'static, ()>,
    handles: Handles,
    pub(super) listener: TcpListener,
}

impl<'a> Gateway<'a> {
    /// Listens for signals, and on the ports for operators and for callers.
    pub(super) async fn open(
        config: &'a ProcessConfig,
        seen: &Seen,
        ledger: Option<Ledger>,
    ) -> Result<Self, Source> {
        let stop = Box::pin(stop_signal()?);
        let handles = Handles::new(&seen.telemetry, proto::service_names()).await;
        seen.show(config.admin_listen, &handles.health, ledger)
            .await?;
        Ok(Self {
            config: &config.server,
            stop,
            handles,
            listener: port::open("listen", config.listen).await?,
        })
    }

    /// Serves until it is told to stop, and has drained.
    pub(super) async fn run(self, upstream: Upstream, ledger: Option<Ledger>) -> io::Result<()> {
        let max_bytes = self.config.max_request_bytes;
        let services = move || Service::new(upstream.for_worker()).services(max_bytes);
        let ended = server::run(
            self.listener,
            self.stop,
            services,
            self.config,
            &self.handles,
        )
        .await;
        if let Some(ledger) = ledger {
            ledger.close().await;
        }
        ended
    }
}
