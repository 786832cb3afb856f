//! The outermost layer: names each call, counts it, traces it, and logs how it ended.
//!
//! One line for each call that failed, at the level that its cause deserves, and one at debug for each
//! that did not. Nothing that a caller or OnboardFlow wrote is in a line, but for the request id, the
//! trace id, and the name of a caller that was identified.

use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Response, StatusCode};
use tokio::time::Instant;
use tonic::{Code, body::Body};
use tower::{Layer, Service};
use tracing::{Level, event};

use super::call::{Answered, Arrived, End, Failed, Inbound};
use crate::{
    context::Context,
    error::{Error, Kind, Loss, Row},
    telemetry::{Method, Telemetry, code_name},
};

/// Sees every call.
#[derive(Clone, Debug)]
pub(super) struct AccessLogLayer {
    telemetry: Telemetry,
    max_timeout: Duration,
}

impl AccessLogLayer {
    pub(super) fn new(telemetry: &Telemetry, max_timeout: Duration) -> Self {
        Self {
            telemetry: telemetry.clone(),
            max_timeout,
        }
    }
}

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLog<S>;

    fn layer(&self, inner: S) -> AccessLog<S> {
        AccessLog {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service of [`AccessLogLayer`].
#[derive(Clone, Debug)]
pub(super) struct AccessLog<S> {
    inner: S,
    /// One worker's: its calls share it, and no others do.
    layer: Arc<AccessLogLayer>,
}

type Answering = BoxFuture<'static, Result<Answered, Infallible>>;

impl<S> Service<Arrived> for AccessLog<S>
where
    S: Service<Inbound, Response = Answered, Error = Infallible, Future = Answering>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Observed;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, Arrived { request, peer }: Arrived) -> Observed {
        let started = Instant::now();
        let Telemetry { metrics, tracer } = &self.layer.telemetry;
        let method = Arc::clone(metrics.calls.method(request.uri().path()));
        method.started();
        let deadline = started + self.layer.max_timeout;
        let mut context = Context::new(request.headers(), Arc::clone(&method.short_name), deadline);
        context.trace = tracer.call(&method.name, request.headers());
        Observed {
            call: Some(Call {
                layer: Arc::clone(&self.layer),
                method,
                context: context.clone(),
                peer: peer.address,
                started,
            }),
            answering: self.inner.call(Inbound {
                request,
                peer,
                context,
            }),
        }
    }
}

/// A call under way. Dropped before its end, it counts as cancelled.
pub(super) struct Observed {
    call: Option<Call>,
    answering: Answering,
}

impl Future for Observed {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Ok(answered) = ready!(self.answering.as_mut().poll(cx));
        if let Some(mut call) = self.call.take() {
            call.context.caller = answered.caller;
            match &answered.end {
                End::Answered(code) => call.answered(*code),
                End::Failed(failed) => call.failed(failed),
            }
        }
        Poll::Ready(Ok(answered.response))
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            // What left is known for certain once the attempt is dropped; a field would be dropped
            // only after this.
            self.answering = Box::pin(future::pending());
            call.cancelled();
        }
    }
}

struct Call {
    layer: Arc<AccessLogLayer>,
    method: Arc<Method>,
    context: Context,
    peer: Option<SocketAddr>,
    started: Instant,
}

/// Logs a call, with the fields that every line has.
macro_rules! log {
    ($call:expr, $level:ident, $duration:expr, $code:expr, { $($own:tt)* }, $($message:tt)+) => {
        event!(
            Level::$level,
            method = &*$call.method.name,
            code = code_name($code),
            $($own)*
            attempts = $call.context.progress.attempts(),
            duration_ms = millis($duration),
            upstream_ms = millis($call.context.progress.upstream()),
            caller = $call.context.caller.as_ref().map(|caller| caller.name.as_str()),
            peer = $call.peer.map(display),
            request_id = $call.context.request_id(),
            request_id_replaced = $call.context.replaced_request_id(),
            trace_id = $call.context.trace.id(),
            $($message)+
        )
    };
}

impl Call {
    fn answered(self, code: Code) {
        let duration = self.ended(code, None);
        self.context.trace.end(code, None);
        log!(self, DEBUG, duration, code, {}, "served");
    }

    fn failed(self, failed: &Failed) {
        // As the caller was told: an earlier attempt may say more than the last one.
        let row = Row {
            write: failed.write,
            ..failed.kind.row()
        };
        let duration = self.ended(row.code, Some(failed.kind));
        let calls = &self.layer.telemetry.metrics.calls;
        calls.failed(&self.method, failed.kind, failed.write);
        self.context.trace.end(row.code, Some(row));
        macro_rules! failed_at {
            ($level:ident) => {
                log!(self, $level, duration, row.code, {
                    reason = row.reason,
                    write = row.write.as_str(),
                    http_status = failed.http_status.as_ref().map(StatusCode::as_u16),
                }, "{}", failed.cause)
            };
        }
        match row.level {
            Level::ERROR => failed_at!(ERROR),
            Level::WARN => failed_at!(WARN),
            _ => failed_at!(INFO),
        }
    }

    /// The caller left before its answer came, or reset the stream.
    fn cancelled(self) {
        let sent = self.context.progress.sent();
        self.failed(&Failed::new(&Error::new(Loss::Cancelled(sent))));
    }

    fn ended(&self, code: Code, failure: Option<Kind>) -> Duration {
        let duration = self.started.elapsed();
        if let Some(caller) = &self.context.caller {
            self.layer.telemetry.metrics.callers.ended(caller, failure);
        }
        self.method.handled(code, duration);
        duration
    }
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
