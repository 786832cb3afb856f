//! The gateway's own health, as every port that tells it shares it. Knows services by name alone.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

/// Bytes of a message. A service's name is far shorter.
pub(super) const MAX_MESSAGE: usize = 4 << 10;

/// Whether the gateway takes calls: `NOT_SERVING` until it listens and from the signal to stop on.
/// Clones share the state.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
    /// `""`, which is the server, and the services.
    names: Arc<[String]>,
    ready: Arc<AtomicBool>,
}

impl Health {
    /// `NOT_SERVING`, for `""` and for each of these services.
    pub async fn new(services: impl IntoIterator<Item = String>) -> Self {
        let health = Self {
            reporter: HealthReporter::new(),
            names: std::iter::once(String::new()).chain(services).collect(),
            ready: Arc::new(AtomicBool::new(false)),
        };
        health.set(ServingStatus::NotServing).await;
        health
    }

    /// Whether the gateway takes calls.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// `grpc.health.v1`, to serve on any port.
    pub fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
            .max_decoding_message_size(MAX_MESSAGE)
    }

    pub(super) async fn set_serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    pub(super) async fn set_not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        let ready = status == ServingStatus::Serving;
        self.ready.store(ready, Ordering::Relaxed);
        for service in &*self.names {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
