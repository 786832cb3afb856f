//! Health and reflection, which stand beside the calls: whoever may not call may ask whether the gateway
//! is well. They are outside `--max-in-flight` and the checks of callers, and so have limits of their own.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::{Status, body::Body};
use tonic_health::pb::health_server;
use tonic_reflection::pb::{v1, v1alpha};
use tower::Service as _;

use super::{
    health::{Health, MAX_MESSAGE},
    message::FirstMessage,
    places::{For, Places, holding},
    services::Services,
};
use crate::{config::ServerConfig, proto, telemetry};

/// Time to the answer to a Check, and for the first message of a stream.
const IN_TIME: Duration = Duration::from_secs(5);
/// Calls of them at once, over all workers: a Watch stays for as long as its connection.
const MAX_STREAMS: usize = 1024;
/// Those on one connection.
const MAX_OF_CONNECTION: usize = 32;

/// Health and, where it is switched on, reflection.
#[derive(Clone)]
pub(super) struct Beside {
    services: Services,
    streams: Arc<Places>,
    metrics: telemetry::Connections,
}

/// The places that they have.
pub(super) fn streams() -> Arc<Places> {
    Places::new(MAX_STREAMS, MAX_OF_CONNECTION, MAX_STREAMS)
}

impl Beside {
    pub(super) fn new(
        config: &ServerConfig,
        health: &Health,
        streams: Arc<Places>,
        metrics: telemetry::Connections,
    ) -> io::Result<Self> {
        let mut services = Services::default().with(health_server::SERVICE_NAME, health.service());
        if config.reflection {
            services = add_reflection(services).map_err(io::Error::other)?;
        }
        Ok(Self {
            services,
            streams,
            metrics,
        })
    }

    /// Whether a path is one of theirs.
    pub(super) fn has(&self, path: &str) -> bool {
        self.services.has(path)
    }

    /// The answer to a call.
    pub(super) async fn answer(
        mut self,
        request: Request<Incoming>,
        connection: u64,
    ) -> Result<Response<Body>, Infallible> {
        let holder = For {
            connection,
            caller: None,
        };
        let Ok(place) = self.streams.take(holder, 1) else {
            self.metrics.health_refused();
            let status = Status::unavailable("Too many calls of health and reflection are open.");
            return Ok(status.into_http());
        };
        let held = (place, self.metrics.health_opened());
        let request = request.map(|body| Body::new(FirstMessage::of(body, IN_TIME)));
        match timeout(IN_TIME, self.services.call(request)).await {
            Ok(answer) => Ok(answer?.map(|body| holding(body, held))),
            Err(_late) => {
                let status = Status::deadline_exceeded("The message did not arrive within 5 s.");
                Ok(status.into_http())
            }
        }
    }
}

fn add_reflection(services: Services) -> Result<Services, tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that tools print error details decoded.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let newest = builder().build_v1()?.max_decoding_message_size(MAX_MESSAGE);
    let older = builder()
        .build_v1alpha()?
        .max_decoding_message_size(MAX_MESSAGE);
    Ok(services
        .with(v1::server_reflection_server::SERVICE_NAME, newest)
        .with(v1alpha::server_reflection_server::SERVICE_NAME, older))
}
