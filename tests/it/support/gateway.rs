//! A gateway in the test's own runtime, and a client of it.

use std::{net::SocketAddr, time::Duration};

use onboardflow_gateway::{
    config::{AuthScheme, Credentials, ServerConfig, UpstreamConfig},
    proto::{
        CreateCustomerRequest, CreateCustomerResponse, UpdateCustomerRequest,
        UpdateCustomerResponse, customer_service_client::CustomerServiceClient,
    },
    server,
    service::Service,
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
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

/// The configuration of a gateway under test: the program's defaults, with short times.
pub struct Config {
    pub upstream: UpstreamConfig,
    pub server: ServerConfig,
}

impl Config {
    pub fn new(upstream: Url) -> Self {
        Self {
            upstream: UpstreamConfig::new(
                upstream,
                Credentials::Gateway {
                    token: SecretString::from(KEY),
                    scheme: AuthScheme::Token,
                },
            ),
            server: ServerConfig {
                default_timeout: Duration::from_secs(10),
                max_timeout: Duration::from_secs(60),
                max_request_bytes: 64 << 10,
                reflection: true,
                drain_timeout: Duration::from_secs(5),
            },
        }
    }
}

impl Gateway {
    /// In front of this upstream, configured by default.
    pub async fn before(upstream: Url) -> Self {
        Self::start(Config::new(upstream)).await
    }

    pub async fn start(config: Config) -> Self {
        logs::keep();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let service = Service::new(Upstream::new(&config.upstream).unwrap());
        let task = tokio::spawn(async move {
            let stop = async {
                let _ = stopped.await;
            };
            server::run(listener, stop, service, &config.server).await
        });
        Self {
            address,
            stop,
            task,
        }
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

    /// Tells it to stop, and waits for its end, so that a panic in it surfaces.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.unwrap().unwrap();
    }
}
