//! Sets a call's deadline at its arrival, and ends the call when it passes, or when its connection has to be
//! closed. Knows no service and no caller.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Response;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{call::Inbound, timeout::grpc_timeout};
use crate::error::{Error, Loss, Refusal, Sent};

/// Gives each call min(`grpc-timeout`, cap), or the default where the caller names no time.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeadlineLayer {
    default: Duration,
    cap: Duration,
}

impl DeadlineLayer {
    pub(super) fn new(default: Duration, cap: Duration) -> Self {
        Self { default, cap }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline {
            inner,
            times: *self,
        }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub(super) struct Deadline<S> {
    inner: S,
    times: DeadlineLayer,
}

impl<S> Service<Box<Inbound>> for Deadline<S>
where
    S: Service<Box<Inbound>, Response = Response<Body>>,
    S::Error: Into<Error>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut call: Box<Inbound>) -> Self::Future {
        let Ok(timeout) = grpc_timeout(call.request.headers()) else {
            let error = Error::new(Refusal::InvalidRequest).saying("grpc-timeout is malformed");
            return Box::pin(async { Err(error) });
        };
        let deadline = Instant::now() + timeout.unwrap_or(self.times.default).min(self.times.cap);
        call.context.deadline = deadline;
        let peer = Arc::clone(&call.peer);
        let progress = call.context.progress.clone();
        let call = self.inner.call(call);
        Box::pin(async move {
            // Else the call would get as far as it does at one go, which may be out of the gateway.
            if Instant::now() >= deadline {
                return Err(Ended::Late.error(Sent::No));
            }
            let ended = tokio::select! {
                biased;
                answered = timeout_at(deadline, call) => match answered {
                    Ok(answered) => return answered.map_err(Into::into),
                    Err(_late) => Ended::Late,
                },
                () = peer.over.cancelled() => Ended::ByTheGateway,
            };
            Err(ended.error(progress.sent()))
        })
    }
}

/// Why a call ended without an answer.
enum Ended {
    /// Its own deadline passed.
    Late,
    /// The time passed that is given to calls in flight when the connection goes away.
    ByTheGateway,
}

impl Ended {
    fn error(self, sent: Sent) -> Error {
        match (self, sent) {
            (Self::Late, sent) => Error::new(Loss::DeadlineExceeded(sent)),
            // UNAVAILABLE, which clients repeat by themselves, is for what never left.
            (Self::ByTheGateway, Sent::No) => Error::new(Refusal::Draining),
            (Self::ByTheGateway, Sent::Maybe) => Error::new(Loss::DeadlineExceeded(sent))
                .saying("the gateway ended it, because it had to close the connection"),
        }
    }
}
