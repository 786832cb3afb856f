//! Lets so many calls in at once, over all workers, and refuses more without delay. There is no
//! queue: one that is full only makes every call late.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context as TaskContext, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::{Layer, Service};

use super::Counters;
use crate::error::{Error, Refusal};

/// What all workers' calls count against.
#[derive(Debug)]
pub(super) struct Admission {
    counters: Arc<Counters>,
    max: usize,
    closed: AtomicBool,
}

impl Admission {
    pub(super) fn new(counters: Arc<Counters>, max: usize) -> Self {
        Self {
            counters,
            max,
            closed: AtomicBool::new(false),
        }
    }

    /// Refuses every call from now on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    fn admit(self: &Arc<Self>) -> Result<Slot, Refusal> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Refusal::Draining);
        }
        if self.counters.enter(self.max) {
            Ok(Slot(Arc::clone(self)))
        } else {
            Err(Refusal::Overloaded)
        }
    }
}

/// One call's place.
#[derive(Debug)]
pub(super) struct Slot(Arc<Admission>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.counters.leave();
    }
}

/// Refuses calls beyond the limit.
#[derive(Clone, Debug)]
pub(super) struct LimitLayer(pub(super) Arc<Admission>);

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        Limit {
            inner,
            admission: Arc::clone(&self.0),
        }
    }
}

/// The service of [`LimitLayer`].
#[derive(Clone, Debug)]
pub(super) struct Limit<S> {
    inner: S,
    admission: Arc<Admission>,
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
        match self.admission.admit() {
            Ok(slot) => Limited::Admitted {
                call: self.inner.call(request),
                slot,
            },
            Err(refusal) => Limited::Refused { refusal },
        }
    }
}

pin_project! {
    /// The future of [`Limit`]. Holds the call's place until the call is over or dropped.
    #[project = LimitedProjection]
    pub(super) enum Limited<F> {
        Admitted { #[pin] call: F, slot: Slot },
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
            LimitedProjection::Admitted { call, .. } => Poll::Ready(ready!(call.poll(cx))),
            LimitedProjection::Refused { refusal } => Poll::Ready(Err(Error::new(*refusal))),
        }
    }
}
