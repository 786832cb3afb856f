//! Health and reflection, which stand beside the calls: whoever may not call may ask whether the gateway
//! is well. They are outside `--max-in-flight` and the checks of callers, and so have limits of their own.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::{Status, body::Body, service::Routes};
use tonic_health::pb::health_server;
use tonic_reflection::pb::{v1, v1alpha};
use tower::Service as _;

use super::{
    message::FirstMessage,
    places::{For, Holding, Places},
    router::Shared,
};
use crate::{proto, telemetry};

/// Bytes of a message. A service's name is far shorter.
pub(super) const MAX_MESSAGE: usize = 4 << 10;
/// Time to the answer to a Check, and for the first message of a stream.
const IN_TIME: Duration = Duration::from_secs(5);
/// Calls of them at once, over all workers: a Watch stays for as long as its connection.
const MAX_STREAMS: usize = 1024;
/// Those on one connection.
const MAX_OF_CONNECTION: usize = 32;

/// Health and, where it is switched on, reflection.
#[derive(Clone)]
pub(super) struct Beside {
    routes: Routes,
    names: &'static [&'static str],
    streams: Arc<Places>,
    metrics: telemetry::Connections,
}

/// The places that they have.
pub(super) fn streams() -> Arc<Places> {
    Places::new(MAX_STREAMS, MAX_OF_CONNECTION, MAX_STREAMS)
}

impl Beside {
    pub(super) fn new(shared: &Shared) -> io::Result<Self> {
        const NAMES: [&str; 3] = [
            health_server::SERVICE_NAME,
            v1::server_reflection_server::SERVICE_NAME,
            v1alpha::server_reflection_server::SERVICE_NAME,
        ];
        let routes = Routes::new(shared.health.service());
        let (routes, names) = if shared.config.reflection {
            let routes = add_reflection(routes).map_err(io::Error::other)?;
            (routes, &NAMES[..])
        } else {
            (routes, &NAMES[..1])
        };
        Ok(Self {
            routes: routes.prepare(),
            names,
            streams: Arc::clone(&shared.beside),
            metrics: shared.telemetry.metrics.connections.clone(),
        })
    }

    /// Whether a path is one of theirs.
    pub(super) fn has(&self, path: &str) -> bool {
        let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        service.is_some_and(|(service, _)| self.names.contains(&service))
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
        match timeout(IN_TIME, self.routes.call(request)).await {
            Ok(answer) => Ok(answer?.map(|body| Body::new(Holding::new(body, held)))),
            Err(_late) => {
                let status = Status::deadline_exceeded("The message was not whole within 5 s.");
                Ok(status.into_http())
            }
        }
    }
}

fn add_reflection(routes: Routes) -> Result<Routes, tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that tools print error details decoded.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let newest = builder().build_v1()?;
    let older = builder().build_v1alpha()?;
    Ok(routes
        .add_service(newest.max_decoding_message_size(MAX_MESSAGE))
        .add_service(older.max_decoding_message_size(MAX_MESSAGE)))
}
