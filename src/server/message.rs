//! The one message of a call, read until it is whole, within a time and a size of its own. Only then
//! does the call take a place: whoever sends it slowly holds nobody up.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body::{Body as _, Frame};
use http_body_util::Full as Whole;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep, timeout};
use tonic::{Status, body::Body};

use super::places::{For, Place, Places};
use crate::error::{Error, Loss, Refusal, Sent};

/// Time from a call's headers to the end of its message.
pub(super) const ARRIVAL: Duration = Duration::from_secs(5);
/// Bytes of messages that are arriving, over all workers: at least so many, and at least four of the
/// largest. A message that is there with its headers, as almost all are, is none of them.
const MAX_ARRIVING: usize = 8 << 20;
/// What a call costs at least while its message is arriving: its stream, headers and task.
const COST_OF_CALL: usize = 4 << 10;
/// What stands before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Reads messages.
#[derive(Clone, Debug)]
pub(super) struct Messages {
    max_bytes: usize,
    arriving: Arc<Places>,
}

impl Messages {
    /// Of up to this size.
    pub(super) fn new(max_bytes: usize) -> Self {
        let largest = max_bytes.saturating_add(PREFIX + COST_OF_CALL);
        let room = MAX_ARRIVING.max(largest.saturating_mul(4));
        Self {
            max_bytes,
            arriving: Places::quartered(room),
        }
    }

    /// A body that holds all of a call's message.
    pub(super) async fn whole(&self, body: &mut Incoming, holder: &For) -> Result<Body, Error> {
        let read = timeout(ARRIVAL, self.read(body, holder)).await;
        let bytes = read.unwrap_or_else(|_late| {
            let error = Error::new(Loss::DeadlineExceeded(Sent::No));
            Err(error.saying("the message did not arrive within 5 s"))
        })?;
        Ok(Body::new(Whole::new(bytes)))
    }

    async fn read(&self, body: &mut Incoming, holder: &For) -> Result<Bytes, Error> {
        let mut message = Message::default();
        let mut place: Option<Place> = None;
        while !body.is_end_stream() {
            let mut next = pin!(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
            let frame = if let Some(frame) = next.as_mut().now_or_never() {
                frame
            } else {
                self.pay(&mut place, &message, holder)?;
                next.await
            };
            match frame {
                None => break,
                // The peer has reset the stream, or is gone.
                Some(Err(error)) => {
                    let error_of_peer = Error::new(Loss::Cancelled(Sent::No));
                    return Err(error_of_peer.because(error));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        message.add(data, self.max_bytes)?;
                    }
                }
            }
        }
        Ok(message.bytes)
    }

    /// Takes the room that a message needs that isn't whole yet.
    fn pay(&self, place: &mut Option<Place>, message: &Message, holder: &For) -> Result<(), Error> {
        let needs = message.length.unwrap_or_default() + COST_OF_CALL;
        if place.as_ref().is_none_or(|place| place.count() < needs) {
            *place = None;
            let taken = self.arriving.take(holder.clone(), needs);
            *place = Some(taken.map_err(|_full| Error::new(Refusal::Overloaded))?);
        }
        Ok(())
    }
}

/// A message, and how long it is going to be.
#[derive(Default)]
struct Message {
    bytes: Bytes,
    /// With its prefix, once that is there.
    length: Option<usize>,
}

impl Message {
    fn add(&mut self, data: Bytes, max_bytes: usize) -> Result<(), Error> {
        if self.bytes.is_empty() {
            self.bytes = data;
        } else {
            let have = std::mem::take(&mut self.bytes);
            let mut all = have.try_into_mut().unwrap_or_else(|have| {
                let mut all =
                    BytesMut::with_capacity(self.length.unwrap_or(PREFIX).max(have.len()));
                all.extend_from_slice(&have);
                all
            });
            all.extend_from_slice(&data);
            self.bytes = all.freeze();
        }
        self.length = self.length.or_else(|| length(&self.bytes));
        if self
            .length
            .is_some_and(|length| length > max_bytes.saturating_add(PREFIX))
        {
            return Err(Error::new(Refusal::RequestTooLarge));
        }
        if self.length.is_some_and(|length| self.bytes.len() > length) {
            let error = Error::new(Refusal::InvalidRequest);
            return Err(error.saying("the call has more than one message"));
        }
        Ok(())
    }
}

pin_project! {
    /// A stream of messages, the first of which has to be whole in time. The others may take as long as
    /// they like.
    pub(super) struct FirstMessage {
        #[pin]
        body: Incoming,
        late: Option<Pin<Box<Sleep>>>,
        prefix: BytesMut,
        have: usize,
    }
}

impl FirstMessage {
    pub(super) fn of(body: Incoming, time: Duration) -> Self {
        Self {
            body,
            late: Some(Box::pin(sleep(time))),
            prefix: BytesMut::new(),
            have: 0,
        }
    }
}

impl http_body::Body for FirstMessage {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let polled = this.body.poll_frame(cx);
        if let Some(late) = this.late {
            if let Poll::Ready(Some(Ok(frame))) = &polled
                && let Some(data) = frame.data_ref()
            {
                let missing = PREFIX.saturating_sub(this.prefix.len()).min(data.len());
                this.prefix.extend_from_slice(&data[..missing]);
                *this.have += data.len();
            }
            if length(this.prefix).is_some_and(|length| *this.have >= length) {
                *this.late = None;
            } else if polled.is_pending() {
                ready!(late.as_mut().poll(cx));
                let status = Status::deadline_exceeded("The message did not arrive within 5 s.");
                return Poll::Ready(Some(Err(status)));
            }
        }
        polled.map_err(|error| Status::from_error(error.into()))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// Bytes of a message with its prefix, once that is there.
fn length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(1..PREFIX)?.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    Some(length.saturating_add(PREFIX))
}
