//! Opens connections to OnboardFlow: name, TCP, proxy, TLS, HTTP.
//!
//! Names are resolved for every connection, so that a change is followed as connections end.

use std::{sync::Arc, time::Duration, vec};

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
    socket::{Socket, Wire},
};
use crate::{
    config::{Proxy, Resolver, UpstreamConfig},
    error::Source,
};

/// Idle seconds after which the kernel asks whether the peer is still there, and between asking.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long an answer to a ping of HTTP/2 may take.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it asks before it gives up.
const KEEPALIVE_PROBES: u32 = 3;

/// The system's, asked on threads, as it blocks.
fn system_resolver() -> Resolver {
    let as_list = |addresses: GaiAddrs| addresses.collect::<Vec<_>>().into_iter();
    BoxCloneSyncService::new(GaiResolver::new().map_response(as_list))
}

/// A new connection.
pub(super) struct Connection {
    pub(super) sender: Sender,
    pub(super) socket: Arc<Socket>,
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
    pub(super) fn new(target: Uri, config: &UpstreamConfig) -> Result<Self, BuildError> {
        let resolver = config.resolver.clone().unwrap_or_else(system_resolver);
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        // Shared out among a name's addresses, so that a dead one leaves time for the next.
        tcp.set_connect_timeout(Some(config.connect_timeout));
        Ok(Self {
            tls: tls(&target, config)?,
            target,
            tcp,
            proxy: config.proxy.clone(),
            timeout: config.connect_timeout,
        })
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
    pub(super) async fn dial(&self) -> Result<Connection, Source> {
        // Boxed, as it is as large as it is seldom: every call's future would have room for it, and
        // be copied with it.
        timeout(self.timeout, Box::pin(self.connect()))
            .await
            .map_err(|_| "no connection within --connect-timeout")?
    }

    async fn connect(&self) -> Result<Connection, Source> {
        let socket = Socket::new(self.tcp().await?);
        let wire = Wire(Arc::clone(&socket));
        let sender = match &self.tls {
            None => http1(wire).await?,
            // Boxed too, as it is by far the largest part, and not always needed.
            Some(tls) => Box::pin(tls.connect(wire)).await?,
        };
        Ok(Connection { sender, socket })
    }

    async fn tcp(&self) -> Result<TcpStream, Source> {
        let mut tcp = self.tcp.clone();
        let stream = match &self.proxy {
            None => tcp.ready().await?.call(self.target.clone()).await?,
            Some(proxy) if self.tls.is_none() => {
                tcp.ready().await?.call(proxy.address.clone()).await?
            }
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.address.clone(), tcp);
                if let Some(authorization) = &proxy.authorization {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                tunnel.ready().await?.call(self.target.clone()).await?
            }
        };
        Ok(stream.into_inner())
    }
}

impl Tls {
    async fn connect(&self, wire: Wire) -> Result<Sender, Source> {
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

async fn http1<S>(stream: S) -> Result<Sender, Source>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection to OnboardFlow ended with an error");
        }
    });
    Ok(Sender::Http1(sender))
}

async fn http2<S>(stream: S) -> Result<Sender, Source>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Finds out that the peer is gone where TCP doesn't say so.
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection to OnboardFlow ended with an error");
        }
    });
    Ok(Sender::Http2(sender))
}
