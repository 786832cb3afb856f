//! One connection: TLS, HTTP/2, its calls and its end. Knows no service.

use std::{
    convert::Infallible, error::Error as _, io, net::SocketAddr, pin::pin, sync::Arc,
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::http2,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tracing::{debug, field::display, info};

use super::{
    callers::Peer,
    crowd::Seat,
    life::{LINGER, Life, Turn},
    router::{Routed, Router},
    signals::Signals,
    streams::{StreamBody, Streams},
    tls::Tls,
    wire::{Verdict, Wire},
};
use crate::{
    config::ConnectionConfig,
    telemetry::{self, Closed},
};

/// Calls at once on one connection. A caller that has more opens another one, or waits.
const MAX_CONCURRENT_STREAMS: u32 = 256;
/// Bytes of all of a call's headers, as HTTP/2 counts them. A token takes two or three KiB.
const MAX_HEADER_LIST: u32 = 16 << 10;
/// Bytes of a call's answer that wait for the peer's window.
const MAX_SEND_BUFFER: usize = 64 << 10;
/// Bytes that a peer may send ahead of being read, on a call and on the connection. Whoever opens
/// many connections can make the gateway hold as much for each of them.
const STREAM_WINDOW: u32 = 128 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Calls that the peer may have reset before they were looked at. A caller may well give up all that
/// it has begun at once; h2 takes more than 20 for an attack.
const MAX_PENDING_RESETS: usize = 64;

/// What the connections of a worker have in common.
pub(super) struct Connections {
    pub(super) config: ConnectionConfig,
    pub(super) max_timeout: Duration,
    pub(super) router: Router,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) signals: Signals,
    pub(super) metrics: telemetry::Connections,
}

impl Connections {
    /// Serves one connection to its end, and says what that was. What serves HTTP/2 is boxed, as a
    /// connection without TLS would have room for one with it otherwise, three times its size.
    pub(super) async fn serve(&self, stream: TcpStream, seat: &Seat) -> Closed {
        let accepted = Instant::now();
        // Answers are small: waiting to fill a packet only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY could not be set");
        }
        let address = stream.peer_addr().ok();
        let Some(tls) = &self.tls else {
            return Box::pin(self.serve_http2(stream, address, None, self.life(accepted, seat)))
                .await;
        };
        let handshake = TlsAcceptor::from(tls.get()).accept(stream);
        let deadline = accepted + self.config.handshake_timeout;
        let shaken = tokio::select! {
            shaken = timeout_at(deadline, handshake) => shaken,
            () = self.given_up() => return Closed::Drained,
            () = seat.leave.cancelled() => return Closed::Crowded,
        };
        match shaken {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let certificate = certificates
                    .and_then(<[_]>::first)
                    .map(|certificate| certificate.clone().into_owned());
                Box::pin(self.serve_http2(stream, address, certificate, self.life(accepted, seat)))
                    .await
            }
            Ok(Err(error)) => no_tls(&error, address),
            Err(_late) => Closed::NoHandshake,
        }
    }

    /// Ready when a drain doesn't wait for a handshake any more.
    async fn given_up(&self) {
        self.signals.draining.cancelled().await;
        sleep(LINGER).await;
    }

    async fn serve_http2<IO>(
        &self,
        io: IO,
        address: Option<SocketAddr>,
        certificate: Option<CertificateDer<'static>>,
        life: Life,
    ) -> Closed
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = Arc::new(Peer::new(address, certificate.as_ref(), life.over.clone()));
        let preface_by = life.accepted + self.config.handshake_timeout;
        let io = Wire::new(io, preface_by, self.config.stall_timeout);
        let verdict = io.verdict();
        let calls = Calls {
            router: self.router.clone(),
            peer,
            streams: Arc::clone(&life.streams),
            going_away: life.going_away.clone(),
        };
        let service = service_fn(move |request| calls.serve(request));
        let connection = self.http2().serve_connection(TokioIo::new(io), service);
        drive(connection, &life, &verdict).await
    }

    fn life(&self, accepted: Instant, seat: &Seat) -> Life {
        Life {
            config: self.config.clone(),
            accepted,
            stuck_after: self.max_timeout + self.config.answer_timeout,
            streams: Arc::clone(&seat.streams),
            leave: seat.leave.clone(),
            going_away: self.signals.draining.child_token(),
            over: self.signals.over.child_token(),
        }
    }

    fn http2(&self) -> http2::Builder<TokioExecutor> {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .keep_alive_interval(self.config.keepalive_interval)
            .keep_alive_timeout(self.config.keepalive_timeout);
        http2
    }
}

/// Moves a connection on until its end, or the end of its life.
async fn drive<IO, S>(
    connection: http2::Connection<TokioIo<Wire<IO>>, S, TokioExecutor>,
    life: &Life,
    verdict: &Verdict,
) -> Closed
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: HttpService<Incoming, ResBody = StreamBody, Error = Infallible>,
    S::Future: Send + 'static,
{
    use futures_util::future::Either::{Left, Right};

    let mut connection = pin!(connection);
    let mut closing = Closed::InOrder;
    // One future in it at a time. A set of futures polls only the one that was woken: the connection
    // is woken for every call, and its life hardly ever.
    let mut turns = FuturesUnordered::new();
    turns.push(Left(life.serving()));
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => return match ended {
                Ok(()) => closing,
                Err(error) => verdict.get().copied().unwrap_or_else(|| failure(&error)),
            },
            Some(turn) = turns.next() => match turn {
                Turn::GoAway(reason) => {
                    closing = reason;
                    connection.as_mut().graceful_shutdown();
                    life.going_away.cancel();
                    turns.push(Right(life.leaving(reason)));
                }
                Turn::Close(reason) => return reason,
            },
        }
    }
}

/// Why there is no TLS. A caller that is locked out shows here and nowhere else; one that leaves
/// without a word, as TCP probes do, is no such caller.
fn no_tls(error: &io::Error, peer: Option<SocketAddr>) -> Closed {
    let peer = peer.map(display);
    if error.kind() == io::ErrorKind::UnexpectedEof {
        debug!(peer, %error, "the peer left during the TLS handshake");
        Closed::Failed
    } else {
        info!(peer, %error, "the TLS handshake failed");
        Closed::TlsFailed
    }
}

/// Why hyper gave a connection up.
fn failure(error: &hyper::Error) -> Closed {
    let cause = error.source();
    debug!(%error, cause = cause.map(ToString::to_string), "connection ended with an error");
    let reason = cause
        .and_then(|cause| cause.downcast_ref())
        .and_then(h2::Error::reason);
    match reason {
        // h2 found that the peer does too much of something.
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Closed::Abusive,
        _ => Closed::Failed,
    }
}

/// The calls of one connection.
struct Calls {
    router: Router,
    peer: Arc<Peer>,
    streams: Arc<Streams>,
    going_away: CancellationToken,
}

impl Calls {
    fn serve(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<StreamBody>, Infallible>> + Send + use<> {
        let routed = self.router.route(request, Arc::clone(&self.peer));
        let (answer, stream, going_away) = match routed {
            Routed::Call(answer) => (answer, self.streams.call(), None),
            Routed::Beside(answer) => (answer, self.streams.watch(), Some(self.going_away.clone())),
        };
        async move {
            let answer: Response<Body> = answer.await?;
            Ok(answer.map(|body| match going_away {
                Some(going_away) => StreamBody::watch(body, stream, going_away),
                None => StreamBody::call(body, stream),
            }))
        }
    }
}
