//! The bytes of a connection, watched on their way to hyper, for what hyper and h2 leave to us.
//!
//! They bound header lists, CONTINUATIONs, streams, small DATA frames, resets of streams that are
//! yet to be looked at, and, by pings, peers that fall silent in the middle of anything. They do not
//! bound the time that the preface takes, nor the time that a write waits for a peer that reads
//! nothing, and they answer control frames, and begin calls only to see them reset, without end.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

use crate::telemetry::Closed;

/// Why the bytes of a connection were ended, once they were.
pub(super) type Verdict = Arc<OnceLock<Closed>>;

/// A stream of bytes, watched.
pub(super) struct Wire<IO> {
    io: IO,
    frames: Frames,
    /// The end of the time for the preface, until it has come.
    preface: Option<Pin<Box<Sleep>>>,
    stall_timeout: Duration,
    /// The end of the time for a write that waits.
    stalled: Option<Pin<Box<Sleep>>>,
    verdict: Verdict,
}

impl<IO> Wire<IO> {
    /// Fails a read when the preface is not there at `preface_by`, and a write that waits for
    /// `stall_timeout`.
    pub(super) fn new(io: IO, preface_by: Instant, stall_timeout: Duration) -> Self {
        Self {
            io,
            frames: Frames::new(),
            preface: Some(Box::pin(sleep_until(preface_by))),
            stall_timeout,
            stalled: None,
            verdict: Verdict::default(),
        }
    }

    /// Where it will say why it failed, if it does.
    pub(super) fn verdict(&self) -> Verdict {
        Arc::clone(&self.verdict)
    }

    fn end<T>(&self, why: Closed) -> Poll<io::Result<T>> {
        // The first reason is the one.
        let _ = self.verdict.set(why);
        Poll::Ready(Err(io::Error::other(why.name())))
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
        self.end(Closed::Abusive)
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
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        if read.is_pending() {
            let Some(late) = &mut this.preface else {
                return Poll::Pending;
            };
            ready!(late.as_mut().poll(cx));
            return this.end(Closed::NoHandshake);
        }
        if this.frames.pass(&buf.filled()[before..]).is_err() {
            return this.end(Closed::Abusive);
        }
        if this.frames.have_begun {
            this.preface = None;
        }
        read
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

/// Frames that carry no call, beyond those that calls bring with them, that a peer may send at once.
const BURST: u32 = 1000;
/// And after that, one for each of these.
const RESPITE: Duration = Duration::from_millis(10);
/// What a call brings with it: window updates, answers to pings, a reset when its time is up.
const PER_CALL: u32 = 8;
/// A call that is reset sooner than this was begun for nothing, and brings nothing with it. Deadlines
/// are longer: a caller whose calls all time out is no attacker.
const HASTY: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Flood;

/// Finds the frames in what a peer sends, and keeps account of those that cost it nothing.
#[derive(Debug)]
struct Frames {
    /// The first one has begun, so the preface is over.
    have_begun: bool,
    /// Bytes to the end of the preface or of the payload of this frame.
    rest: usize,
    header: [u8; FRAME_HEADER],
    /// How much of the header is there.
    have: usize,
    credit: u32,
    credited: Instant,
    resets: Resets,
}

impl Frames {
    fn new() -> Self {
        Self {
            have_begun: false,
            rest: PREFACE,
            header: [0; FRAME_HEADER],
            have: 0,
            credit: BURST,
            credited: Instant::now(),
            resets: Resets::new(),
        }
    }

    /// Takes note of these bytes.
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let skipped = self.rest.min(bytes.len());
            self.rest -= skipped;
            bytes = &bytes[skipped..];
            let more = (FRAME_HEADER - self.have).min(bytes.len());
            let (header, rest) = bytes.split_at(more);
            self.header[self.have..self.have + more].copy_from_slice(header);
            self.have += more;
            bytes = rest;
            if self.have == FRAME_HEADER {
                self.have = 0;
                self.begin()?;
            }
        }
        Ok(())
    }

    /// A frame's header is there.
    fn begin(&mut self) -> Result<(), Flood> {
        self.have_begun = true;
        let [high, middle, low, kind, _, stream @ ..] = self.header;
        self.rest = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        // The first bit is reserved, and a peer may set it.
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        match kind {
            HEADERS => {
                self.resets.opened(stream);
                self.credit = (self.credit + PER_CALL).min(BURST);
                Ok(())
            }
            // h2 counts these.
            DATA | CONTINUATION => Ok(()),
            RST_STREAM if self.resets.is_hasty(stream) => self.spend(PER_CALL + 1),
            _ => self.spend(1),
        }
    }

    fn spend(&mut self, cost: u32) -> Result<(), Flood> {
        if self.credit < cost {
            let respites = self.credited.elapsed().as_millis() / RESPITE.as_millis();
            if respites > 0 {
                self.credited = Instant::now();
            }
            let earned = u32::try_from(respites).unwrap_or(u32::MAX);
            self.credit = self.credit.saturating_add(earned).min(BURST);
        }
        self.credit = self.credit.checked_sub(cost).ok_or(Flood)?;
        Ok(())
    }
}

/// Tells calls that are reset at once from those that were given time. Streams are numbered upwards,
/// so time is told by numbers, in stretches of at least [`HASTY`].
#[derive(Debug)]
struct Resets {
    /// The last call.
    latest: u32,
    /// When this stretch began.
    since: Instant,
    /// The last call before it.
    before: u32,
    /// The last call that is known to be as old as [`HASTY`].
    settled: u32,
}

impl Resets {
    fn new() -> Self {
        Self {
            latest: 0,
            since: Instant::now(),
            before: 0,
            settled: 0,
        }
    }

    fn opened(&mut self, stream: u32) {
        self.settle();
        self.latest = stream;
    }

    fn is_hasty(&mut self, stream: u32) -> bool {
        self.settle();
        stream > self.settled
    }

    fn settle(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed >= HASTY {
            // A call after the first of these would have begun a stretch of its own.
            let is_quiet = elapsed >= 2 * HASTY;
            self.settled = if is_quiet { self.latest } else { self.before };
            self.before = self.latest;
            self.since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests;
