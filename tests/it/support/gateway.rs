//! A gateway in the test's own runtime, and a client of it.

use std::{net::SocketAddr, time::Duration};

use onboardflow_gateway::{
    config::{AuthScheme, Credentials, ServerConfig, UpstreamConfig},
    ledger::Ledger,
    proto::{
        self, CreateCustomerRequest, CreateCustomerResponse, UpdateCustomerRequest,
        UpdateCustomerResponse, customer_service_client::CustomerServiceClient,
    },
    server::{self, Handles, Services},
    service::Service,
    telemetry::{Closed, Telemetry},
    upstream::Upstream,
};
use secrecy::SecretString;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::{IntoRequest, Response, Status, transport::Channel};
use url::Url;

use super::{KEY, logs};

/// A running gateway.
pub struct Gateway {
    pub address: SocketAddr,
    pub handles: Handles,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

/// The configuration of a gateway under test: the program's defaults, with short times.
pub struct Config {
    pub upstream: UpstreamConfig,
    pub server: ServerConfig,
    pub telemetry: Telemetry,
    pub ledger: Option<Ledger>,
}

impl Config {
    pub fn new(upstream: Url) -> Self {
        let credentials = Credentials::Gateway {
            token: SecretString::from(KEY),
            scheme: AuthScheme::Token,
        };
        Self {
            upstream: UpstreamConfig {
                // Tests count connections, and pause the clock. Those of warm ones ask for them.
                warm_connections: 0,
                ..UpstreamConfig::new(upstream, credentials)
            },
            server: ServerConfig {
                // On the test's own thread, so that it may pause the clock.
                workers: 1,
                drain_delay: Duration::ZERO,
                drain_timeout: Duration::from_secs(5),
                ..ServerConfig::default()
            },
            telemetry: Telemetry::default(),
            ledger: None,
        }
    }
}

impl Gateway {
    /// In front of this upstream, configured by default.
    pub async fn before(upstream: Url) -> Self {
        Self::start(Config::new(upstream)).await
    }

    pub async fn start(config: Config) -> Self {
        let metrics = &config.telemetry.metrics;
        let upstream = Upstream::new(&config.upstream, config.ledger, metrics).unwrap();
        let max_bytes = config.server.max_request_bytes;
        let services = move || Service::new(upstream.for_worker()).services(max_bytes);
        Self::seen(services, config.server, &config.telemetry).await
    }

    /// In front of services that a test brings.
    pub async fn with(
        services: impl Fn() -> Services + Send + Sync + 'static,
        config: ServerConfig,
    ) -> Self {
        Self::seen(services, config, &Telemetry::default()).await
    }

    async fn seen(
        services: impl Fn() -> Services + Send + Sync + 'static,
        config: ServerConfig,
        telemetry: &Telemetry,
    ) -> Self {
        logs::keep();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let handles = Handles::new(telemetry, proto::service_names()).await;
        let running = handles.clone();
        let task = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            server::run(listener, stop, services, &config, &running).await
        });
        // What a test changes from here on is a change.
        while !handles.health.is_ready() && !task.is_finished() {
            tokio::task::yield_now().await;
        }
        Self {
            address,
            handles,
            stop: Some(stop),
            task,
        }
    }

    /// The value of a series, named with all its labels. 0 where there is none.
    pub fn metric(&self, series: &str) -> u64 {
        let metrics = self.handles.telemetry.metrics.encode().unwrap();
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse().unwrap())
    }

    /// How many connections have ended for this reason.
    pub fn closed(&self, why: Closed) -> u64 {
        let name = "onboardflow_gateway_connections_closed_total";
        self.metric(&format!("{name}{{reason=\"{}\"}}", why.name()))
    }

    /// How many connections its first worker was handed, and has.
    pub fn connections(&self) -> (u64, u64) {
        let of_first = |name| self.metric(&format!("{name}{{worker=\"0\"}}"));
        (
            of_first("onboardflow_gateway_connections_opened_total"),
            of_first("onboardflow_gateway_connections"),
        )
    }

    pub async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.address);
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> CustomerServiceClient<Channel> {
        CustomerServiceClient::new(self.channel().await)
    }

    /// Creates a customer over a connection of its own.
    pub async fn create(
        &self,
        request: impl IntoRequest<CreateCustomerRequest>,
    ) -> Result<Response<CreateCustomerResponse>, Status> {
        self.client().await.create_customer(request).await
    }

    /// Updates a customer over a connection of its own.
    pub async fn update(
        &self,
        request: impl IntoRequest<UpdateCustomerRequest>,
    ) -> Result<Response<UpdateCustomerResponse>, Status> {
        self.client().await.update_customer(request).await
    }

    /// Tells it to stop.
    pub fn tell_to_stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for its end, so that a panic in it surfaces.
    pub async fn ended(self) {
        self.task.await.unwrap().unwrap();
    }

    /// Tells it to stop, and waits for its end.
    pub async fn stop(mut self) {
        self.tell_to_stop();
        self.ended().await;
    }
}
