//! Lets so many calls in at once, over all workers, and refuses more without delay. There is no
//! queue: one that is full only makes every call late.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::error::{Error, Refusal};

/// Refuses calls for which there is no place.
#[derive(Clone, Debug)]
pub(super) struct LimitLayer(pub(super) Arc<Semaphore>);

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        Limit {
            inner,
            places: Arc::clone(&self.0),
        }
    }
}

/// The service of [`LimitLayer`].
#[derive(Clone, Debug)]
pub(super) struct Limit<S> {
    inner: S,
    places: Arc<Semaphore>,
}

impl<S> Service<Request<Body>> for Limit<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Error>,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = Limited<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Limited::Admitted {
                call: self.inner.call(request),
                place,
            },
            Err(TryAcquireError::NoPermits) => Limited::Refused {
                refusal: Refusal::Overloaded,
            },
            Err(TryAcquireError::Closed) => Limited::Refused {
                refusal: Refusal::Draining,
            },
        }
    }
}

pin_project! {
    /// The future of [`Limit`]. Holds the call's place until the call is over or dropped.
    #[project = LimitedProjection]
    pub(super) enum Limited<F> {
        Admitted { #[pin] call: F, place: OwnedSemaphorePermit },
        Refused { refusal: Refusal },
    }
}

impl<F> Future for Limited<F>
where
    F: Future<Output = Result<Response<Body>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match self.project() {
            LimitedProjection::Admitted { call, .. } => call.poll(cx),
            LimitedProjection::Refused { refusal } => Poll::Ready(Err(Error::new(*refusal))),
        }
    }
}
