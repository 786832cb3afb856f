//! The admin port: what the platform asks, over plain HTTP. Whoever reaches it learns how the gateway
//! is, never what a call says; the customer calls are not served here.
//!
//! | path | answers |
//! |---|---|
//! | `/` | a page for people, without scripts |
//! | `/livez` | 200 as long as the process can answer |
//! | `/readyz` | 200 while the gateway takes calls, 503 before it listens and while it drains |
//! | `/metrics` | OpenMetrics text |
//! | `/config` | every flag's value and where it came from, without secrets |
//! | `/log` | what is logged; `PUT` changes it, from this machine alone |
//! | `grpc.health.v1` | Check and Watch, in plaintext on the same port |

mod minutes;
mod page;
mod refuse;
mod series;

use std::{
    collections::VecDeque, convert::Infallible, fmt, net::IpAddr, sync::Arc, time::Duration,
};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{Request, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, yield_now},
    time::timeout,
};
use tonic::Status;
use tower::Service as _;
use tracing::{debug, info, warn};

use self::{
    minutes::Minutes,
    refuse::{FromThisMachine, Peer},
};
use crate::{
    ledger::Ledger,
    server::Health,
    telemetry::{Metrics, OPENMETRICS, logs::LogControl},
};

/// Connections at once. Probes and scrapes need a few; a further one takes the place of the oldest, so
/// that connections on which nothing happens can't keep a probe from being answered.
const MAX_CONNECTIONS: usize = 64;
/// Those from one address: a further one takes the place of the oldest of its own, so that nobody's flood
/// ends the kubelet's. That is why the loop is ours: of 500 idle connections from one address, `axum::serve`
/// kept all 500 (3.5 MiB), and this one the last 16.
const MAX_OF_ADDRESS: usize = 16;
/// Calls of health at once on a connection.
const MAX_STREAMS: u32 = 16;
/// Time to the answer to a Check, and to the first one of a Watch.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest body: a log filter.
const MAX_BODY: usize = 4096;
/// The wait before accepting again after the system refused.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the admin port shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// What `/readyz` and `grpc.health.v1` show.
    pub health: Health,
    /// What `/log` shows and changes.
    pub log: LogControl,
    /// Whose writes of unknown fate the page shows.
    pub ledger: Option<Ledger>,
    /// What `/config` shows: JSON, without secrets.
    pub config: Arc<str>,
}

impl Admin {
    /// Answers on `listener` until it is dropped.
    pub async fn serve(self, listener: TcpListener) -> Infallible {
        let minutes = Minutes::default();
        tokio::spawn(minutes.clone().follow(self.metrics.clone()));
        let router = self.router().layer(Extension(minutes));
        let mut connections = Connections::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    connections.make_room(peer.ip());
                    let router = router.clone().layer(Extension(Peer(peer)));
                    let conversation = tokio::spawn(converse(stream, router));
                    connections.add(peer.ip(), conversation.abort_handle());
                    // So that it can read what came with it, before others end it.
                    yield_now().await;
                }
                Err(error) => {
                    warn!(%error, "a connection to the admin port could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// The metrics, with the ledger's rows counted now.
    async fn figures(&self) -> Result<String, fmt::Error> {
        if let Some(ledger) = &self.ledger {
            ledger.show_now().await;
        }
        self.metrics.encode()
    }

    fn router(self) -> Router {
        let health = Router::new()
            .route_service("/grpc.health.v1.Health/{method}", self.health.service())
            .layer(middleware::from_fn(in_time));
        Router::new()
            .route("/", get(page::page))
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/config", get(config))
            .route("/log", get(log).put(set_log))
            .merge(health)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .layer(middleware::from_fn(refuse::pages))
            .with_state(self)
    }
}

/// The connections that are open, the oldest first, and where they come from.
#[derive(Default)]
struct Connections(VecDeque<(IpAddr, AbortHandle)>);

impl Connections {
    /// Ends one if there would be too many with a further one from this address.
    fn make_room(&mut self, address: IpAddr) {
        self.0.retain(|(_, connection)| !connection.is_finished());
        let is_its_own = |(other, _): &(IpAddr, AbortHandle)| *other == address;
        let its_own = self.0.iter().filter(|open| is_its_own(open)).count();
        let leaves = if its_own >= MAX_OF_ADDRESS {
            self.0.iter().position(is_its_own)
        } else {
            (self.0.len() >= MAX_CONNECTIONS).then_some(0)
        };
        if let Some((_, connection)) = leaves.and_then(|at| self.0.remove(at)) {
            connection.abort();
        }
    }

    fn add(&mut self, address: IpAddr, connection: AbortHandle) {
        self.0.push_back((address, connection));
    }
}

async fn in_time(request: axum::extract::Request, next: Next) -> Response {
    let answer = timeout(HEALTH_TIMEOUT, next.run(request)).await;
    answer.unwrap_or_else(|_late| {
        Status::deadline_exceeded("The message did not arrive within 5 s.").into_http()
    })
}

async fn converse(stream: TcpStream, router: Router) {
    let service = service_fn(move |request: Request<Incoming>| router.clone().call(request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    let mut http2 = server.http2();
    http2.timer(TokioTimer::new());
    http2.max_concurrent_streams(MAX_STREAMS);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "a connection to the admin port failed");
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.health.is_ready() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.figures().await {
        Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn config(State(admin): State<Admin>) -> impl IntoResponse {
    let json = [(CONTENT_TYPE, "application/json")];
    (json, admin.config.to_string())
}

async fn log(State(admin): State<Admin>) -> String {
    format!("{}\n", admin.log.get())
}

async fn set_log(_: FromThisMachine, State(admin): State<Admin>, filter: String) -> Response {
    match admin.log.set(&filter) {
        Ok(()) => {
            info!(log = admin.log.get(), "the log's level was changed");
            StatusCode::NO_CONTENT.into_response()
        }
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt as _;

    use super::*;
    use crate::{
        config::{LogConfig, LogFormat},
        telemetry::logs,
    };

    #[tokio::test]
    async fn only_this_machine_changes_the_log() {
        let config = LogConfig {
            format: LogFormat::Json,
            filter: "info".parse().unwrap(),
        };
        // Without the subscriber the handle would have nothing to change.
        let (_subscriber, log) = logs::subscriber(&config, logs::Reader::Program, std::io::sink);
        let admin = Admin {
            ledger: None,
            metrics: Metrics::new(),
            health: Health::new([]).await,
            log: log.clone(),
            config: "{}".into(),
        };
        for (peer, status, filter) in [
            ("192.0.2.1:1", StatusCode::FORBIDDEN, "info"),
            ("[2001:db8::1]:1", StatusCode::FORBIDDEN, "info"),
            ("[::ffff:127.0.0.1]:1", StatusCode::NO_CONTENT, "debug"),
        ] {
            let router = admin.clone().router();
            let router = router.layer(Extension(Peer(peer.parse().unwrap())));
            let request = Request::put("http://localhost/log")
                .body(Body::from("debug"))
                .unwrap();
            let answer = router.oneshot(request).await.unwrap();
            assert_eq!((answer.status(), &*log.get()), (status, filter), "{peer}");
        }
    }
}
