//! The way in: the listener, and what stands between it and the service.

mod access_log;
mod deadline;
mod rescue;
mod timeout;

use std::{convert::Infallible, future::Future, io};

use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::net::{TcpListener, TcpStream};
use tonic::{body::Body, codec::CompressionEncoding, service::Routes};
use tonic_health::server::{HealthReporter, health_reporter};
use tower::{Service as _, ServiceBuilder, util::BoxCloneSyncService};
use tracing::{debug, info, warn};

use self::{deadline::DeadlineLayer, rescue::RescueLayer};
use crate::{
    config::ServerConfig,
    proto::{self, customer_service_server::CustomerServiceServer},
    service::Service,
};

/// The server that the generated code makes of our service.
type Customers = CustomerServiceServer<Service>;

/// The stack in front of the service. Boxed, so that no signature carries its type.
type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Serves calls from `listener` until `shutdown` is ready, then lets the calls in flight finish,
/// for as long as the drain timeout allows.
pub async fn run(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    service: Service,
    config: &ServerConfig,
) -> io::Result<()> {
    let (health, router) = router(service, config)?;
    let connections = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    info!(address = %listener.local_addr()?, "serving");
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(serve_connection(stream, router.clone(), connections.watcher()));
                }
                // The peer's doing, or a passing lack of file descriptors.
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::task::yield_now().await;
                }
            },
        }
    }
    drop(listener);
    info!("draining");
    health.set_not_serving::<Customers>().await;
    health
        .set_service_status("", tonic_health::ServingStatus::NotServing)
        .await;
    if tokio::time::timeout(config.drain_timeout, connections.shutdown())
        .await
        .is_err()
    {
        warn!("calls were still in flight at the end of the drain timeout");
    }
    Ok(())
}

async fn serve_connection(stream: TcpStream, router: Router, watcher: Watcher) {
    // Answers are small: waiting to fill a packet only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set");
    }
    let service = service_fn(move |request| router.clone().route(request));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        debug!(%error, "connection ended with an error");
    }
}

/// Health and reflection, which stand outside limits and caller checks, and the stack with the
/// service.
#[derive(Clone)]
struct Router {
    open: Routes,
    stack: Stack,
}

impl Router {
    async fn route(mut self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        if request.uri().path().starts_with("/grpc.") {
            self.open.call(request).await
        } else {
            self.stack.call(request.map(Body::new)).await
        }
    }
}

fn router(service: Service, config: &ServerConfig) -> io::Result<(HealthReporter, Router)> {
    // A new reporter says SERVING for "" and what is set here for the service.
    let (reporter, health) = health_reporter();
    let mut open = Routes::new(health);
    if config.reflection {
        open = add_reflection(open).map_err(io::Error::other)?;
    }
    let router = Router {
        open: open.prepare(),
        stack: stack(service, config),
    };
    Ok((reporter, router))
}

/// The inbound stack, outermost first.
fn stack(service: Service, config: &ServerConfig) -> Stack {
    let service = CustomerServiceServer::new(service)
        .accept_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(config.max_request_bytes);

    let stack = ServiceBuilder::new()
        // Names the call, and turns every failure below into a status with details: an `Error` of
        // ours, a bare status of tonic's, a panic.
        .layer(RescueLayer::new(config.max_timeout))
        // Bounds everything below, and drops it when the time is up: that ends the REST call.
        .layer(DeadlineLayer::new(
            config.default_timeout,
            config.max_timeout,
        ))
        .service(service);
    BoxCloneSyncService::new(stack)
}

fn add_reflection(routes: Routes) -> Result<Routes, tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // So that tools print error details decoded.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes
        .add_service(builder().build_v1()?)
        .add_service(builder().build_v1alpha()?))
}
