//! The streams that are open on one connection, and since when, at the cost of two atomics a call.
//!
//! A call is bounded by its deadline, but its answer is not: a peer can keep its window at zero, and
//! hyper waits for it without end. It has to be seen from outside, as nobody polls a body then.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};

/// Where streams are counted that may stay: health's and reflection's.
const STAYING: usize = 2;

/// The streams of a connection.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// Open ones: calls of this period and of the one before it, by turns, and those that may stay.
    open: [AtomicU32; 3],
    /// Where the calls of this period are: 0 or 1.
    period: AtomicUsize,
    opened: AtomicU64,
}

impl Streams {
    /// A call.
    pub(super) fn call(self: &Arc<Self>) -> OpenStream {
        self.stream(self.period.load(Relaxed))
    }

    /// A stream that may stay open for as long as the connection.
    pub(super) fn watch(self: &Arc<Self>) -> OpenStream {
        self.stream(STAYING)
    }

    fn stream(self: &Arc<Self>, counted: usize) -> OpenStream {
        self.open[counted].fetch_add(1, Relaxed);
        self.opened.fetch_add(1, Relaxed);
        OpenStream {
            streams: Arc::clone(self),
            counted,
        }
    }

    /// Streams now.
    pub(super) fn open(&self) -> u32 {
        self.open.iter().map(|open| open.load(Relaxed)).sum()
    }

    /// Streams so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Relaxed)
    }

    /// Begins the next period. False if a call of the one before this is still open.
    pub(super) fn next_period(&self) -> bool {
        let next = 1 - self.period.load(Relaxed);
        self.period.store(next, Relaxed);
        self.open[next].load(Relaxed) == 0
    }
}

/// Counts a stream for as long as it is open.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Arc<Streams>,
    /// Where it is counted.
    counted: usize,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.streams.open[self.counted].fetch_sub(1, Relaxed);
    }
}

pin_project! {
    /// A response's body, and the stream that stays open until it is sent.
    pub(super) struct StreamBody {
        #[pin]
        inner: Body,
        stream: OpenStream,
        end: End,
    }
}

/// When a body ends that would not end by itself.
enum End {
    Itself,
    GoingAway(Pin<Box<WaitForCancellationFutureOwned>>),
    Over,
}

impl StreamBody {
    /// A body that ends by itself.
    pub(super) fn call(inner: Body, stream: OpenStream) -> Self {
        Self {
            inner,
            stream,
            end: End::Itself,
        }
    }

    /// A body that may be a health Watch: it ends with UNAVAILABLE when the connection goes away, as
    /// it would keep it open otherwise.
    pub(super) fn watch(inner: Body, stream: OpenStream, going_away: CancellationToken) -> Self {
        Self {
            inner,
            stream,
            end: End::GoingAway(Box::pin(going_away.cancelled_owned())),
        }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if matches!(this.end, End::Over) {
            return Poll::Ready(None);
        }
        let polled = this.inner.poll_frame(cx);
        if polled.is_pending()
            && let End::GoingAway(going_away) = this.end
            && going_away.as_mut().poll(cx).is_ready()
        {
            *this.end = End::Over;
            return Poll::Ready(Some(Ok(Frame::trailers(going_away_trailers()))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.end, End::Over) || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn going_away_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("14"));
    trailers.insert(
        Status::GRPC_MESSAGE,
        HeaderValue::from_static("the connection is closing; watch on another one"),
    );
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_outlasts_a_whole_period_is_noticed() {
        let streams = Arc::new(Streams::default());
        let _watch = streams.watch();
        let call = streams.call();
        assert!(streams.next_period());
        assert!(!streams.next_period());
        assert_eq!((streams.open(), streams.opened()), (2, 2));
        drop(call);
        for _ in 0..3 {
            let _call = streams.call();
            assert!(streams.next_period());
        }
        assert_eq!(streams.open(), 1);
    }
}
