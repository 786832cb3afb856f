//! A TCP connection that keeps evidence of what left through it.
//!
//! It stands below TLS, next to the kernel, so that nothing has to be inferred from an error: where
//! no write took place, no byte of a request left.

use std::{
    fmt, io,
    mem::MaybeUninit,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

/// Bytes that a server may send of which no call takes any: interim answers (1xx) and frames of HTTP/2
/// without end stop here. Twice what [`WINDOW`](super::dial::WINDOW) lets a server send of replies
/// before calls take them.
const MAX_UNHEARD: u64 = 2 << 20;

/// A connection, shared by the task that drives it and by whoever has to know what became of it.
/// One worker's: the lock is never waited for.
pub(super) struct Socket {
    stream: Mutex<TcpStream>,
    /// The other end: OnboardFlow, or the proxy.
    pub(super) peer: Option<IpAddr>,
    pub(super) opened: Instant,
    writes: AtomicU64,
    received: AtomicU64,
    heard: AtomicU64,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Self {
            peer: stream.peer_addr().ok().map(|address| address.ip()),
            opened: Instant::now(),
            stream: Mutex::new(stream),
            writes: AtomicU64::new(0),
            received: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        })
    }

    /// How many writes can have put bytes onto the wire. Where it stands still, nothing left.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// How many bytes came. Where it stands still, nothing came back.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// A call took a reply, or a part of one.
    pub(super) fn heard(&self) {
        self.heard.store(self.received(), Ordering::Relaxed);
    }

    /// Whether there was a reply on it.
    pub(super) fn has_answered(&self) -> bool {
        self.heard.load(Ordering::Relaxed) > 0
    }

    /// Whether the peer has neither closed the connection nor said anything that was not asked
    /// for. The kernel is asked, as the runtime may not have heard of it yet.
    pub(super) fn is_quiet(&self) -> bool {
        let peeked = SockRef::from(&*self.stream()).peek(&mut [MaybeUninit::uninit()]);
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    fn stream(&self) -> MutexGuard<'_, TcpStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write that found no room counts: what it was given waits above, and may leave later. One
    /// that failed put nothing onto the wire.
    fn note(&self, written: &Poll<io::Result<usize>>) {
        if !matches!(written, Poll::Ready(Err(_))) {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

/// The end of a [`Socket`] that TLS and HTTP read and write.
pub(super) struct Wire(pub(super) Arc<Socket>);

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &*self.0;
        if socket.received() - socket.heard.load(Ordering::Relaxed) > MAX_UNHEARD {
            return Poll::Ready(Err(io::Error::other("too much was sent that is no reply")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut *socket.stream()).poll_read(cx, buffer);
        let came = u64::try_from(buffer.filled().len() - before).unwrap_or(u64::MAX);
        if came > 0 {
            socket.received.fetch_add(came, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.0.stream()).poll_write(cx, bytes);
        self.0.note(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.0.stream()).poll_write_vectored(cx, slices);
        self.0.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.stream()).poll_shutdown(cx)
    }
}
