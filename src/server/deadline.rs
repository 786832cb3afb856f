//! Sets a call's deadline at its arrival, and ends the call when it passes.

use std::{
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tower::{Layer, Service};

use super::timeout::grpc_timeout;
use crate::{
    context::Context,
    error::{Error, Loss, Refusal},
};

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

impl<S> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Into<Error>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Ok(timeout) = grpc_timeout(request.headers()) else {
            let error = Error::new(Refusal::InvalidRequest).saying("grpc-timeout is malformed");
            return Box::pin(async { Err(error) });
        };
        let deadline = Instant::now() + timeout.unwrap_or(self.times.default).min(self.times.cap);
        let progress = request
            .extensions_mut()
            .get_mut::<Context>()
            .map(|context| {
                context.deadline = deadline;
                context.progress.clone()
            });
        let call = self.inner.call(request);
        Box::pin(async move {
            if let Ok(answered) = timeout_at(deadline, call).await {
                return answered.map_err(Into::into);
            }
            let sent = progress.unwrap_or_default().sent();
            Err(Error::new(Loss::DeadlineExceeded(sent)))
        })
    }
}
