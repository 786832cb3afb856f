//! A TCP connection that keeps evidence of what left through it.
//!
//! It stands below TLS, next to the kernel, so that nothing has to be inferred from an error: where
//! no write took place, no byte of a request left.

use std::{
    fmt, io,
    mem::MaybeUninit,
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
};

/// A connection, shared by the task that drives it and by whoever has to know what became of it.
/// One worker's: the lock is never waited for.
pub(super) struct Socket {
    stream: Mutex<TcpStream>,
    writes: AtomicU64,
    reads: AtomicU64,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Self {
            stream: Mutex::new(stream),
            writes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
        })
    }

    /// How many writes can have put bytes onto the wire. Where it stands still, nothing left.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// How many reads brought bytes. Where it stands still, nothing came back.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
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
        let before = buffer.filled().len();
        let read = Pin::new(&mut *self.0.stream()).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.0.reads.fetch_add(1, Ordering::Relaxed);
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
