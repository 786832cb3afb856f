//! Which service takes a call, and what stands in front of it. Knows no resource.

use std::{convert::Infallible, io, sync::Arc};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tonic::body::Body;
use tower::{Service as _, ServiceBuilder, util::BoxCloneSyncService};

use super::{
    access_log::AccessLogLayer,
    beside::Beside,
    call::Arrived,
    callers::{Callers, Peer},
    deadline::DeadlineLayer,
    health::Health,
    limit::LimitLayer,
    message::Messages,
    places::Places,
    rescue::RescueLayer,
    services::Services,
};
use crate::{config::ServerConfig, telemetry::Telemetry};

/// The stack in front of the service. Boxed, so that no signature carries its type.
type Stack = BoxCloneSyncService<Arrived, Response<Body>, Infallible>;
/// What a call is answered with, in time.
type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// An answer that is on its way.
pub(super) enum Routed {
    /// To a call, which has a deadline.
    Call(Answer),
    /// Of health or reflection, which may stay for as long as the connection.
    Beside(Answer),
}

/// Health and reflection, which stand outside limits and caller checks, and the stack with the
/// services.
#[derive(Clone)]
pub(super) struct Router {
    beside: Beside,
    stack: Stack,
}

/// What all calls, of all workers, have in common.
pub(super) struct Shared {
    pub(super) config: ServerConfig,
    pub(super) health: Health,
    pub(super) telemetry: Telemetry,
    pub(super) callers: Arc<Callers>,
    /// One for each call of health and reflection.
    pub(super) beside: Arc<Places>,
    /// What reads the message of each call.
    pub(super) messages: Messages,
    /// One for each call of `--max-in-flight`. Closed when calls are no longer taken.
    pub(super) places: Arc<Places>,
}

impl Router {
    pub(super) fn new(services: Services, shared: &Shared) -> io::Result<Self> {
        let connections = shared.telemetry.metrics.connections.clone();
        let streams = Arc::clone(&shared.beside);
        Ok(Self {
            beside: Beside::new(&shared.config, &shared.health, streams, connections)?,
            stack: stack(services, shared),
        })
    }

    /// The answer to a call, boxed, as hyper moves the future of every call several times.
    pub(super) fn route(&self, request: Request<Incoming>, peer: Arc<Peer>) -> Routed {
        if !is_grpc(request.headers()) {
            return Routed::Call(Box::pin(async {
                Ok(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE))
            }));
        }
        if request.method() != Method::POST {
            return Routed::Call(Box::pin(async {
                Ok(refused(StatusCode::METHOD_NOT_ALLOWED))
            }));
        }
        if self.beside.has(request.uri().path()) {
            let answer = self.beside.clone().answer(request, peer.number);
            Routed::Beside(Box::pin(answer))
        } else {
            Routed::Call(self.stack.clone().call(Arrived { request, peer }))
        }
    }
}

/// Whether a request says that it is gRPC's with Protobuf, by the content type, which may go on with
/// `+proto` and parameters. gRPC-Web is another protocol, and `+json` another codec.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = content_type.and_then(|value| value.strip_prefix(b"application/grpc"));
    rest.map(|rest| rest.strip_prefix(b"+proto").unwrap_or(rest))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b';')))
}

/// An answer in HTTP's own terms, as gRPC's protocol has it: whoever asks with a plain GET must not
/// read gRPC's 200 as health.
fn refused(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static("POST");
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// The inbound stack, outermost first.
fn stack(services: Services, shared: &Shared) -> Stack {
    let config = &shared.config;
    let stack = ServiceBuilder::new()
        // Names the call, and sees all that becomes of it.
        .layer(AccessLogLayer::new(&shared.telemetry, config.max_timeout))
        // Names the caller, and turns every failure below into a status with details: an `Error`
        // of ours, a bare status of tonic's, a panic. A caller that may not call takes no one's
        // place.
        .layer(RescueLayer(Arc::clone(&shared.callers)))
        // Bounds everything below, and drops it when the time is up: that ends the REST call.
        .layer(DeadlineLayer::new(
            config.default_timeout,
            config.max_timeout,
        ))
        // Reads the message, and refuses what is too much before it costs more.
        .layer(LimitLayer {
            messages: shared.messages.clone(),
            places: Arc::clone(&shared.places),
        })
        .service(services);
    BoxCloneSyncService::new(stack)
}
