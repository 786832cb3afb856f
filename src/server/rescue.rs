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
use http::{HeaderValue, Response};
use http_body::Body as _;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::{
    call::{Answered, End, Failed, Inbound},
    callers::{Callers, TurnedAway, Unidentified},
};
use crate::{
    callers::Caller,
    context::{Context, NamedBy, REQUEST_ID, REQUEST_ID_REPLACED},
    error::{Error, Loss, Refusal},
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

impl<S> Service<Box<Inbound>> for Rescue<S>
where
    S: Service<Box<Inbound>, Response = Response<Body>, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Answered;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answered, Infallible>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        // Nothing below holds calls back: what has no room for a call refuses it.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, call: Box<Inbound>) -> Self::Future {
        match self.identify(&call) {
            Ok(caller) => self.answer(call, Ok(caller)),
            Err(Unidentified::Refused(turned)) => self.answer(call, Err(turned)),
            Err(Unidentified::KeyUnknown) => {
                let mut rescue = self.clone();
                Box::pin(async move {
                    rescue.callers.newer_keys().await;
                    let identified = rescue.identify(&call);
                    let identified = identified.map_err(Unidentified::into_turned_away);
                    rescue.answer(call, identified).await
                })
            }
        }
    }
}

impl<S> Rescue<S>
where
    S: Service<Box<Inbound>, Response = Response<Body>, Error = Error>,
    S::Future: Send + 'static,
{
    fn identify(&self, call: &Inbound) -> Result<Option<Arc<Caller>>, Unidentified> {
        self.callers.identify(call.request.headers(), &call.peer)
    }

    /// The answer to the call of a caller that was identified, or could not be.
    fn answer(
        &mut self,
        mut call: Box<Inbound>,
        identified: Result<Option<Arc<Caller>>, TurnedAway>,
    ) -> BoxFuture<'static, Result<Answered, Infallible>> {
        let turned = identified.map(|caller| call.context.caller = caller).err();
        let context = call.context.clone();
        let (call, stranger) = match turned {
            None => (
                Ok(AssertUnwindSafe(self.inner.call(call)).catch_unwind()),
                None,
            ),
            Some(TurnedAway { error, name }) => (Err(error), name),
        };
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
            let (mut response, end) = match answered {
                Ok(response) => (response, End::Answered(Code::Ok)),
                // A service that gives its failure details knows best what to say of it.
                Err(status) if !status.details().is_empty() => {
                    let code = status.code();
                    (status.into_http(), End::Answered(code))
                }
                Err(status) => {
                    let (status, failed) = dress(&status, &context);
                    (
                        status.into_http(),
                        End::Failed(Failed { stranger, ..failed }),
                    )
                }
            };
            let headers = response.headers_mut();
            headers.insert(REQUEST_ID, context.request_id);
            if context.named_by == NamedBy::GatewayInstead {
                headers.insert(REQUEST_ID_REPLACED, HeaderValue::from_static("true"));
            }
            Ok(Answered {
                response,
                caller: context.caller,
                end,
            })
        })
    }
}

/// The response, unless it is a failure: then its status.
fn failure(mut response: Response<Body>) -> Result<Response<Body>, Status> {
    // A failure has no body: its status stands in the headers.
    if !response.body().is_end_stream() {
        return Ok(response);
    }
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

/// The status of a failure, with all its details, and with what the access log says of it.
fn dress(status: &Status, context: &Context) -> (Status, Failed) {
    let purpose = context.progress.purpose();
    let dress = |error: &Error| {
        let status = error.to_status(context.request_id(), purpose);
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
    (dressed, failed)
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
