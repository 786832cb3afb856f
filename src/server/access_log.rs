//! The outermost layer: names each call, counts it, traces it, and logs how it ended.
//!
//! One line for each call that failed, at the level that its cause deserves, and one at debug for each
//! that did not. Nothing that a caller or OnboardFlow wrote is in a line, but for the request id, the
//! trace id, and the name that a caller's certificate or token proves.

use std::{
    borrow::Cow,
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

/// Bytes of a caller's name in a line: more than the names of any cluster have.
const MAX_NAME: usize = 512;

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
    S: Service<Box<Inbound>, Response = Answered, Error = Infallible, Future = Answering>,
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
            answering: self.inner.call(Box::new(Inbound {
                request,
                peer,
                context,
            })),
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
    ($call:expr, $level:ident, $duration:expr, $code:expr, $caller:expr, { $($own:tt)* }, $($message:tt)+) => {
        event!(
            Level::$level,
            method = &*$call.method.name,
            code = code_name($code),
            $($own)*
            attempts = $call.context.progress.attempts(),
            duration_ms = millis($duration),
            upstream_ms = millis($call.context.progress.upstream()),
            caller = $caller.map(readable).as_deref(),
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
        log!(self, DEBUG, duration, code, self.caller(), {}, "served");
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
        let caller = self.caller().or(failed.stranger.as_deref());
        macro_rules! failed_at {
            ($level:ident) => {
                log!(self, $level, duration, row.code, caller, {
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

    /// The name of its caller, if it may call.
    fn caller(&self) -> Option<&str> {
        let caller = self.context.caller.as_ref()?;
        Some(&caller.name)
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

/// A caller's name as a line shows it. Whoever issues certificates or tokens chose it: what is too long is
/// cut, and what no rule could list, as it is no visible ASCII, is escaped.
fn readable(name: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_graphic();
    if name.len() <= MAX_NAME && name.chars().all(is_plain) {
        return name.into();
    }
    let mut shown = String::new();
    for c in name.chars() {
        if shown.len() >= MAX_NAME {
            shown.push('…');
            break;
        }
        if is_plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
    }
    shown.into()
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
