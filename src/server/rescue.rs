//! Names the caller, and turns every way in which a call can fail into the status of the table.
//!
//! Below stand layers that fail with an [`Error`], the service, whose errors come through tonic as
//! the source of a bare status, tonic itself, which has statuses of its own for messages that it
//! can't decode, and code that may panic. A caller sees no difference.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{
    access_log::Failed,
    callers::{Callers, Peer, Unidentified},
};
use crate::{
    callers::Caller,
    context::{Context, NamedBy, REQUEST_ID, REQUEST_ID_REPLACED},
    error::{Error, Loss, Refusal, Sent},
};

/// Names a call's caller, and gives its failure a status with details.
#[derive(Clone, Debug)]
pub(super) struct RescueLayer(pub(super) Arc<Callers>);

impl<S> Layer<S> for RescueLayer {
    type Service = Rescue<S>;

    fn layer(&self, inner: S) -> Rescue<S> {
        Rescue {
            inner,
            callers: Arc::clone(&self.0),
        }
    }
}

/// The service of [`RescueLayer`].
#[derive(Clone, Debug)]
pub(super) struct Rescue<S> {
    inner: S,
    callers: Arc<Callers>,
}

impl<S> Service<Request<Body>> for Rescue<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        // Nothing below holds calls back: what has no room for a call refuses it.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (context, identified) = context(&self.callers, &request);
        match identified {
            Ok(caller) => self.answer(request, context, Ok(caller)),
            Err(Unidentified::Refused(error)) => self.answer(request, context, Err(error)),
            Err(Unidentified::KeyUnknown) => {
                let mut rescue = self.clone();
                Box::pin(async move {
                    rescue.callers.newer_keys().await;
                    let identified = identify(&rescue.callers, &request);
                    let identified = identified.map_err(Unidentified::into_error);
                    rescue.answer(request, context, identified).await
                })
            }
        }
    }
}

impl<S> Rescue<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Error>,
    S::Future: Send + 'static,
{
    /// The answer to the call of a caller that was identified, or could not be.
    fn answer(
        &mut self,
        mut request: Request<Body>,
        mut context: Context,
        identified: Result<Option<Arc<Caller>>, Error>,
    ) -> BoxFuture<'static, Result<Response<Body>, Infallible>> {
        let call = identified.map(|caller| {
            context.caller = caller;
            request.extensions_mut().insert(context.clone());
            AssertUnwindSafe(self.inner.call(request)).catch_unwind()
        });
        Box::pin(async move {
            let answered = match call {
                Ok(call) => call.await,
                Err(error) => Ok(Err(error)),
            };
            let answered = match answered {
                Ok(Ok(response)) => failure(response),
                Ok(Err(error)) => Err(Status::from(error)),
                // The panic hook has logged where; what a panic says may be customer data.
                Err(_) => Err(Error::new(Loss::Internal(context.progress.sent())).into()),
            };
            let mut response = answered.unwrap_or_else(|status| dress(&status, &context));
            let headers = response.headers_mut();
            headers.insert(REQUEST_ID, context.request_id);
            if context.named_by == NamedBy::GatewayInstead {
                headers.insert(REQUEST_ID_REPLACED, HeaderValue::from_static("true"));
            }
            if let Some(caller) = context.caller {
                // For the access log.
                response.extensions_mut().insert(caller);
            }
            Ok(response)
        })
    }
}

/// The call's context, and its caller, unless that one may not call.
fn context(
    callers: &Callers,
    request: &Request<Body>,
) -> (Context, Result<Option<Arc<Caller>>, Unidentified>) {
    let headers = request.headers();
    // The access log has put it there.
    let context = request.extensions().get::<Context>().cloned();
    let context = context.unwrap_or_else(|| Context::new(headers, "".into(), Instant::now()));
    (context, identify(callers, request))
}

fn identify(
    callers: &Callers,
    request: &Request<Body>,
) -> Result<Option<Arc<Caller>>, Unidentified> {
    let peer = request
        .extensions()
        .get::<Arc<Peer>>()
        .ok_or_else(|| Error::new(Loss::Internal(Sent::No)).because("call without a peer"))?;
    callers.identify(request.headers(), peer)
}

/// The response, unless it is a failure: then its status.
fn failure(mut response: Response<Body>) -> Result<Response<Body>, Status> {
    // tonic leaves the status that it made a response of in the extensions. The generated code, for
    // a method that it doesn't know, writes the headers alone.
    let status = response
        .extensions_mut()
        .remove::<Status>()
        .or_else(|| Status::from_header_map(response.headers()));
    match status {
        Some(status) if status.code() != Code::Ok => Err(status),
        Some(_) | None => Ok(response),
    }
}

/// The response for a failure, with all its details, and with what the access log says of it.
fn dress(status: &Status, context: &Context) -> Response<Body> {
    let intent = context.progress.intent();
    let dress = |error: &Error| {
        let status = error.to_status(context.request_id(), intent);
        (status, Failed::new(error))
    };
    let (mut dressed, failed) = match Error::of_status(status) {
        Some(error) => dress(error),
        None => dress(&tonics_own(status, context)),
    };
    // An unknown encoding is answered with the known ones.
    if let Some(encodings) = status.metadata().get("grpc-accept-encoding") {
        dressed
            .metadata_mut()
            .insert("grpc-accept-encoding", encodings.clone());
    }
    let mut response = dressed.into_http();
    response.extensions_mut().insert(failed);
    response
}

/// What tonic's own statuses mean: all but the last are about the request message.
fn tonics_own(status: &Status, context: &Context) -> Error {
    match status.code() {
        Code::Unimplemented => Error::new(Refusal::Unimplemented),
        Code::OutOfRange | Code::ResourceExhausted => Error::new(Refusal::RequestTooLarge),
        // Framing, compression or Protobuf that can't be decoded, or no message at all.
        Code::Internal => {
            Error::new(Refusal::InvalidRequest).saying("the message can't be decoded")
        }
        code => Error::new(Loss::Internal(context.progress.sent()))
            .because(format!("a status of tonic's with code {code:?}")),
    }
}
