//! Lets so many calls in at once, over all workers, and refuses more without delay. There is no
//! queue: one that is full only makes every call late.
//!
//! A call takes its place when its message is whole, and holds it until its answer is taken or given up:
//! an answer that nobody reads is memory too.

use std::{
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{
    call::Inbound,
    message::Messages,
    places::{For, Full, Places, holding},
};
use crate::error::{Error, Refusal};

/// Refuses calls for which there is no place.
#[derive(Clone, Debug)]
pub(super) struct LimitLayer {
    pub(super) messages: Messages,
    pub(super) places: Arc<Places>,
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        Limit {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`LimitLayer`].
#[derive(Clone, Debug)]
pub(super) struct Limit<S> {
    inner: S,
    layer: LimitLayer,
}

impl<S> Service<Box<Inbound>> for Limit<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: Box<Inbound>) -> Self::Future {
        let Self { mut inner, layer } = self.clone();
        let holder = holder(&call);
        let Inbound {
            request, context, ..
        } = *call;
        let (mut parts, mut body) = request.into_parts();
        parts.extensions.insert(context);
        Box::pin(async move {
            let body = layer.messages.whole(&mut body, &holder).await?;
            let place = layer.places.take(holder, 1).map_err(refused)?;
            let answer = inner.call(Request::from_parts(parts, body));
            let answer = answer.await.map_err(Into::into)?;
            Ok(answer.map(|body| holding(body, place)))
        })
    }
}

fn holder(call: &Inbound) -> For {
    let caller = call.context.caller.as_ref();
    For {
        connection: call.peer.number,
        caller: caller.map(|caller| Arc::from(caller.name.as_str())),
    }
}

fn refused(full: Full) -> Error {
    match full {
        Full::All => Error::new(Refusal::Overloaded),
        Full::Connection => Error::new(Refusal::Overloaded)
            .saying("this connection already has a quarter of --max-in-flight; open another one"),
        Full::Caller => Error::new(Refusal::Overloaded)
            .saying("this caller already has a quarter of --max-in-flight"),
        Full::Closed => Error::new(Refusal::Draining),
    }
}
