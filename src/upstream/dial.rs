//! Opens connections to OnboardFlow: name, TCP, proxy, TLS, HTTP.
//!
//! Names are resolved for every connection. Knows no call.

use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        dns::{GaiAddrs, GaiResolver},
        proxy::Tunnel,
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{
    ClientConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
};
use rustls_platform_verifier::Verifier;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tower::{Service as _, ServiceExt as _, util::BoxCloneSyncService};
use tracing::debug;

use super::{
    BuildError,
    addresses::Addresses,
    socket::{Socket, Wire},
};
use crate::{
    config::{Proxy, Resolver, UpstreamConfig},
    error::Source,
    telemetry::DialResult,
};

/// Idle seconds after which the kernel asks whether the peer is still there, and between asking.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long an answer to a ping of HTTP/2 may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it asks before it gives up.
const KEEPALIVE_PROBES: u32 = 3;
/// Bytes of replies that a server may send over HTTP/2 before calls take them, on all streams of a
/// connection together. Replies have some hundred.
pub(super) const WINDOW: u32 = 1 << 20;
/// Bytes of a reply's head that are read over HTTP/1.1, and of what a connection reads ahead of a call. hyper
/// looks after each read, so that a head of up to twice as many may get through.
const MAX_HEAD: usize = 32 << 10;
/// What a call that got none is told to the log.
pub(super) const NO_CONNECTION: &str = "no connection within --connect-timeout";

/// The system's, asked on threads, as it blocks.
fn system_resolver() -> Resolver {
    let as_list = |addresses: GaiAddrs| addresses.collect::<Vec<_>>().into_iter();
    BoxCloneSyncService::new(GaiResolver::new().map_response(as_list))
}

/// A new connection.
pub(super) struct Connection {
    pub(super) sender: Sender,
    pub(super) socket: Arc<Socket>,
    /// Drives it, until it is over.
    pub(super) life: Life,
}

pub(super) type Life = Pin<Box<dyn Future<Output = ()> + Send>>;

/// There is no connection.
pub(super) struct Undialled {
    pub(super) result: DialResult,
    pub(super) cause: Source,
}

/// The end of a connection that requests are given to.
pub(super) enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<Full<Bytes>>),
    /// Many at once.
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// Knows the way to OnboardFlow.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    /// Scheme, host and port of the upstream.
    target: Uri,
    tcp: HttpConnector<Resolver>,
    proxy: Option<Proxy>,
    tls: Option<Tls>,
    timeout: Duration,
    addresses: Addresses,
}

#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}

impl Dialer {
    /// Follows the host's addresses on the runtime that this is called in, where connections are
    /// kept that may lead to those of yesterday.
    pub(super) fn new(target: Uri, config: &UpstreamConfig) -> Result<Self, BuildError> {
        let resolver = config.resolver.clone().unwrap_or_else(system_resolver);
        let (asker, addresses) = Addresses::noted_by(resolver);
        let dialler = Self {
            tls: tls(&target, config)?,
            tcp: tcp(asker.resolver.clone(), config.connect_timeout),
            proxy: config.proxy.clone(),
            timeout: config.connect_timeout,
            addresses,
            target,
        };
        let host = dialler.first_hop().host().unwrap_or_default();
        let is_name = host.trim_matches(['[', ']']).parse::<IpAddr>().is_err();
        if is_name
            && config.warm_connections > 0
            && let Ok(name) = host.parse()
        {
            tokio::spawn(asker.ask(name));
        }
        Ok(dialler)
    }

    /// Where TCP leads.
    fn first_hop(&self) -> &Uri {
        match &self.proxy {
            None => &self.target,
            Some(proxy) => &proxy.address,
        }
    }

    /// What is known of the addresses that it dials.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Whether a connection can turn out to carry many requests at once.
    pub(super) fn may_multiplex(&self) -> bool {
        self.tls.is_some()
    }

    /// Longest wait for a connection.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Opens a connection, within the connect timeout.
    pub(super) async fn dial(&self) -> Result<Connection, Undialled> {
        // Boxed, as it is as large as it is seldom.
        timeout(self.timeout, Box::pin(self.connect()))
            .await
            .map_err(|_| Undialled {
                result: DialResult::TimedOut,
                cause: NO_CONNECTION.into(),
            })?
    }

    async fn connect(&self) -> Result<Connection, Undialled> {
        let failed = |result| move |cause| Undialled { result, cause };
        let tcp = self.tcp().await.map_err(failed(DialResult::Unreachable))?;
        let socket = Socket::new(tcp);
        let wire = Wire(Arc::clone(&socket));
        let spoken = match &self.tls {
            None => http1(wire).await,
            // Boxed too, as it is by far the largest part, and not always needed.
            Some(tls) => Box::pin(tls.connect(wire)).await,
        };
        let (sender, life) = spoken.map_err(failed(DialResult::HandshakeFailed))?;
        Ok(Connection {
            sender,
            socket,
            life,
        })
    }

    async fn tcp(&self) -> Result<TcpStream, Source> {
        let mut tcp = self.tcp.clone();
        let stream = match &self.proxy {
            Some(proxy) if self.tls.is_some() => {
                let mut tunnel = Tunnel::new(proxy.address.clone(), tcp);
                if let Some(authorization) = &proxy.authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                tunnel.ready().await?.call(self.target.clone()).await?
            }
            Some(_) | None => tcp.ready().await?.call(self.first_hop().clone()).await?,
        };
        Ok(stream.into_inner())
    }
}

fn tcp(resolver: Resolver, connect_timeout: Duration) -> HttpConnector<Resolver> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    // Shared out among a name's addresses, so that a dead one leaves time for the next.
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp
}

impl Tls {
    async fn connect(&self, wire: Wire) -> Result<(Sender, Life), Source> {
        let stream = self.connector.connect(self.name.clone(), wire).await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            http2(stream).await
        } else {
            http1(stream).await
        }
    }
}

/// What TLS needs, where the upstream speaks it.
fn tls(target: &Uri, config: &UpstreamConfig) -> Result<Option<Tls>, BuildError> {
    if target.scheme_str() != Some("https") {
        return Ok(None);
    }
    let host = target.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| BuildError::Host)?;
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let roots = config.extra_roots.iter().cloned();
    let verifier = Verifier::new_with_extra_roots(roots, Arc::clone(&provider))?;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Tls {
        connector: TlsConnector::from(Arc::new(client)),
        name,
    }))
}

async fn http1<S>(stream: S) -> Result<(Sender, Life), Source>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    Ok((Sender::Http1(sender), life(connection)))
}

async fn http2<S>(stream: S) -> Result<(Sender, Life), Source>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_connection_window_size(WINDOW)
        .initial_stream_window_size(WINDOW / 8)
        // Finds out that the peer is gone where TCP doesn't say so, before a call does.
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await?;
    Ok((Sender::Http2(sender), life(connection)))
}

fn life(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) -> Life {
    Box::pin(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection to OnboardFlow ended with an error");
        }
    })
}
