//! The bytes of a connection, watched on their way to hyper.
//!
//! What HTTP/2 lets a peer do without end, and h2 answers each time: pings, settings, resets. What
//! it may begin and never finish: the preface, a frame, a block of headers. And what it may not
//! take: our writes. The frame layer is the only place where all of that shows, and nine bytes a
//! frame are enough to see it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// What a connection has been seen to do.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    /// The preface, and the first frame after it, have come.
    pub(super) greeted: AtomicBool,
    /// Frames, and header blocks, that came whole.
    pub(super) whole: AtomicU64,
    /// One has begun, and not ended.
    pub(super) partial: AtomicBool,
    /// The peer was found to flood.
    pub(super) flooding: AtomicBool,
}

/// A stream of bytes, watched.
pub(super) struct Wire<IO> {
    io: IO,
    scanner: Scanner,
    conduct: Arc<Conduct>,
    stall_timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<IO> Wire<IO> {
    pub(super) fn new(io: IO, conduct: Arc<Conduct>, stall_timeout: Duration) -> Self {
        Self {
            io,
            scanner: Scanner::new(),
            conduct,
            stall_timeout,
            stalled: None,
        }
    }

    /// The outcome of a write, or an error where the peer has taken nothing for too long.
    fn wrote<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let timeout = self.stall_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(cx));
        self.conduct.flooding.store(true, Relaxed);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let outcome = this.scanner.scan(&buf.filled()[before..]);
        this.scanner.tell(&this.conduct);
        if outcome.is_err() {
            this.conduct.flooding.store(true, Relaxed);
            return Poll::Ready(Err(io::Error::other("the peer floods")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Wire<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_flush(cx);
        self.wrote(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.io).poll_shutdown(cx);
        self.wrote(outcome, cx)
    }
}

const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
const FRAME_HEADER: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// Frames that carry no call, beyond those that calls bring with them, that a peer may send at once.
const BURST: u32 = 1000;
/// And how many a second after that.
const PER_SECOND: u32 = 10;
/// What a call brings with it: window updates, and answers to pings.
const PER_CALL: u32 = 8;

#[derive(Debug)]
struct Flood;

/// Finds the frames in what a peer sends, and keeps account of them.
#[derive(Debug)]
struct Scanner {
    /// Bytes to the end of the preface or of the payload of this frame.
    rest: usize,
    header: [u8; FRAME_HEADER],
    /// How much of the header is there.
    have: usize,
    in_headers: bool,
    frames: u64,
    whole: u64,
    credit: u32,
    credited: Instant,
}

impl Scanner {
    fn new() -> Self {
        Self {
            rest: PREFACE,
            header: [0; FRAME_HEADER],
            have: 0,
            in_headers: false,
            frames: 0,
            whole: 0,
            credit: BURST,
            credited: Instant::now(),
        }
    }

    fn scan(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
            } else {
                let missing = (FRAME_HEADER - self.have).min(bytes.len());
                let (header, rest) = bytes.split_at(missing);
                self.header[self.have..self.have + missing].copy_from_slice(header);
                self.have += missing;
                bytes = rest;
                if self.have == FRAME_HEADER {
                    self.begin()?;
                }
            }
            if self.rest == 0 && self.have == FRAME_HEADER {
                self.have = 0;
                self.frames += 1;
                self.whole += u64::from(!self.in_headers);
            }
        }
        Ok(())
    }

    /// A frame's header is there.
    fn begin(&mut self) -> Result<(), Flood> {
        let [high, middle, low, kind, flags, ..] = self.header;
        self.rest = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            HEADERS => {
                self.in_headers = flags & END_HEADERS == 0;
                self.credit = (self.credit + PER_CALL).min(BURST);
                Ok(())
            }
            CONTINUATION => {
                self.in_headers &= flags & END_HEADERS == 0;
                Ok(())
            }
            // h2 itself counts those without content.
            DATA => Ok(()),
            // A call that was begun only to be reset brings nothing with it.
            RST_STREAM => self.spend(PER_CALL + 1),
            _ => self.spend(1),
        }
    }

    fn spend(&mut self, cost: u32) -> Result<(), Flood> {
        if self.credit < cost {
            let now = Instant::now();
            let seconds = now.duration_since(self.credited).as_secs();
            let earned = u32::try_from(seconds)
                .unwrap_or(u32::MAX)
                .saturating_mul(PER_SECOND);
            if earned > 0 {
                self.credited = now;
            }
            self.credit = self.credit.saturating_add(earned).min(BURST);
        }
        self.credit = self.credit.checked_sub(cost).ok_or(Flood)?;
        Ok(())
    }

    fn tell(&self, conduct: &Conduct) {
        conduct.greeted.store(self.frames > 0, Relaxed);
        conduct.whole.store(self.whole, Relaxed);
        let partial = self.rest > 0 || self.have > 0 || self.in_headers;
        conduct.partial.store(partial, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.resize(FRAME_HEADER + payload, 0);
        frame
    }

    fn greeted() -> Scanner {
        let mut scanner = Scanner::new();
        scanner.scan(&[0; PREFACE]).unwrap();
        scanner
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_found_however_they_are_cut() {
        let mut bytes = vec![0; PREFACE];
        for frame in [
            frame(4, 0, 18),
            frame(HEADERS, 0, 300),
            frame(CONTINUATION, END_HEADERS, 0),
            frame(DATA, 1, 70_000),
        ] {
            bytes.extend(frame);
        }
        for cut in [1, 2, 7, 9, 1000, bytes.len()] {
            let mut scanner = Scanner::new();
            for piece in bytes.chunks(cut) {
                scanner.scan(piece).unwrap();
            }
            assert_eq!((scanner.frames, scanner.whole), (4, 3), "{cut}");
            assert_eq!((scanner.rest, scanner.have), (0, 0), "{cut}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_block_without_an_end_is_partial() {
        let mut scanner = greeted();
        let conduct = Conduct::default();
        scanner.scan(&frame(HEADERS, 0, 10)).unwrap();
        scanner.scan(&frame(CONTINUATION, 0, 10)).unwrap();
        scanner.tell(&conduct);
        assert!(conduct.partial.load(Relaxed));
        assert_eq!(conduct.whole.load(Relaxed), 0);
        scanner.scan(&frame(CONTINUATION, END_HEADERS, 10)).unwrap();
        scanner.tell(&conduct);
        assert!(!conduct.partial.load(Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_a_flood_and_calls_are_not() {
        let mut scanner = greeted();
        let sent = (0..5000).take_while(|_| scanner.scan(&frame(6, 0, 8)).is_ok());
        assert_eq!(sent.count(), BURST as usize);

        // A call with its window updates and an answer to a ping, for ever.
        let mut scanner = greeted();
        for _ in 0..50_000 {
            scanner.scan(&frame(HEADERS, END_HEADERS, 100)).unwrap();
            scanner.scan(&frame(DATA, 1, 100)).unwrap();
            scanner.scan(&frame(8, 0, 4)).unwrap();
            scanner.scan(&frame(8, 0, 4)).unwrap();
            scanner.scan(&frame(6, 1, 8)).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_pings_are_fine() {
        let mut scanner = greeted();
        for _ in 0..20_000 {
            tokio::time::advance(Duration::from_millis(101)).await;
            scanner.scan(&frame(6, 0, 8)).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn resets_alone_are_a_flood_and_some_among_calls_are_not() {
        let mut scanner = greeted();
        let rapid = (0..5000).take_while(|_| {
            scanner.scan(&frame(HEADERS, END_HEADERS, 100)).is_ok()
                && scanner.scan(&frame(RST_STREAM, 0, 4)).is_ok()
        });
        assert!(rapid.count() < 1100);

        let mut scanner = greeted();
        for call in 0..50_000 {
            scanner.scan(&frame(HEADERS, END_HEADERS, 100)).unwrap();
            if call % 2 == 0 {
                scanner.scan(&frame(RST_STREAM, 0, 4)).unwrap();
            }
        }
    }
}
