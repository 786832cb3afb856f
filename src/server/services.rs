//! The services behind the stack, found by the name in a call's path.
//!
//! tonic's `Routes` does the same with axum's router. That matches and keeps what it takes for parameters
//! of the path, and puts request, body and future into further boxes: 4 % of what a call costs.

use std::{
    convert::Infallible,
    future::ready,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::Service;

/// What a service answers a call with.
type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// The services of one worker.
#[derive(Clone, Default)]
pub struct Services(Arc<Vec<(&'static str, Arc<dyn Serves>)>>);

/// A service that tonic generates, or one like it: always ready, and cheap to clone.
trait Serves: Send + Sync {
    fn answer(&self, request: Request<Body>) -> Answer;
}

impl<S> Serves for S
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
        + Clone
        + Send
        + Sync,
{
    fn answer(&self, request: Request<Body>) -> Answer {
        self.clone().call(request)
    }
}

impl Services {
    /// These, and one of this name, with its package: `SERVICE_NAME` in what tonic generates.
    #[must_use]
    pub fn with<S>(mut self, name: &'static str, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answer>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        Arc::make_mut(&mut self.0).push((name, Arc::new(service)));
        self
    }

    /// Whether a path is one of theirs: `/package.Service/Method`.
    pub(super) fn has(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    fn find(&self, path: &str) -> Option<&dyn Serves> {
        let path = path.strip_prefix('/')?;
        let is_it = |name: &str| {
            path.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let found = self.0.iter().find(|(name, _)| is_it(name));
        found.map(|(_, service)| &**service)
    }
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        match self.find(request.uri().path()) {
            Some(service) => service.answer(request),
            None => Box::pin(ready(Ok(Status::unimplemented("").into_http()))),
        }
    }
}
