//! The upstream at the far end: TLS, HTTP/1.1 or HTTP/2, the worked example's reply. It counts
//! handshakes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{Fallible, tls, worked_example::CREATED};

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    /// And `Connection: close` with each reply.
    Http1Closing,
    Http2,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 | Self::Http1Closing => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 | Self::Http1Closing => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    handshakes: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(folder: &Path, protocol: Protocol) -> Fallible<Self> {
        let acceptor = TlsAcceptor::from(tls::server(folder, protocol.alpn())?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let handshakes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&handshakes);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
                connections.spawn(async move {
                    let _ = stream.set_nodelay(true);
                    if let Ok(stream) = acceptor.accept(stream).await {
                        counted.fetch_add(1, Relaxed);
                        serve(stream, protocol).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            handshakes,
            _tasks: tasks,
        })
    }

    /// Handshakes that were made.
    pub(crate) fn handshakes(&self) -> usize {
        self.handshakes.load(Relaxed)
    }
}

async fn serve(stream: TlsStream<tokio::net::TcpStream>, protocol: Protocol) {
    let (stream, service) = (TokioIo::new(stream), service_fn(created));
    // A connection that ends ends: the calls say what came of it.
    let _ = match protocol {
        Protocol::Http2 => {
            http2::Builder::new(TokioExecutor::new())
                .serve_connection(stream, service)
                .await
        }
        Protocol::Http1 | Protocol::Http1Closing => {
            http1::Builder::new()
                .keep_alive(protocol == Protocol::Http1)
                .serve_connection(stream, service)
                .await
        }
    };
}

async fn created(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let whole = request.into_body().collect().await;
    let mut response = Response::new(Full::from(CREATED));
    if whole.is_err() {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
    }
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}
