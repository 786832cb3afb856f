//! Traces: a span for each call and one for each attempt at OnboardFlow, sent by OTLP where the standard
//! `OTEL_*` environment asks for it. Names and attributes are OpenTelemetry's conventions.
//!
//! Spans are made with the SDK directly and not from `tracing`'s, so that without an exporter they cost
//! the check of an `Option`, and so that nothing that is logged can become an attribute. A caller's
//! context is passed on to OnboardFlow in either case.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use opentelemetry::{
    Context as Scope, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    resource::EnvResourceDetector,
    trace::{SdkTracer, SdkTracerProvider, SpanExporter as ExportSpans},
};
use tonic::Code;
use tracing::warn;

use super::{
    calls::{code_name, is_server_error},
    upstream::Attempts,
};
use crate::{
    context::{Passed, Recorded, Trace},
    error::{Row, Source},
    rest::Call,
};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest `tracestate` that is passed on: what the standard asks everyone to carry.
const MAX_TRACESTATE: usize = 512;

/// Makes the spans of calls, or none.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<SdkTracer>);

/// Sends spans until it is told to stop.
#[derive(Debug)]
pub struct Exporting(SdkTracerProvider);

impl Tracer {
    /// Makes spans, and sends them as the environment says. Blocks, so no runtime may call it.
    pub fn from_environment() -> Result<(Self, Exporting), Source> {
        let exporter = SpanExporter::builder().with_http().build()?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_batch_exporter(exporter)
            .build();
        Ok(Self::of(provider))
    }

    /// Makes spans, and hands each to this exporter at once.
    #[must_use]
    pub fn exporting_to(exporter: impl ExportSpans + 'static) -> (Self, Exporting) {
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_simple_exporter(exporter)
            .build();
        Self::of(provider)
    }

    fn of(provider: SdkTracerProvider) -> (Self, Exporting) {
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        (Self(Some(tracer)), Exporting(provider))
    }

    /// Begins the trace of a call that arrived with these headers, or goes on with its caller's.
    pub(crate) fn call(&self, method: &str, headers: &HeaderMap) -> Trace {
        let Some(tracer) = &self.0 else {
            return Trace::passing_on(headers);
        };
        let callers = TraceContextPropagator::new()
            .extract_with_context(&Scope::new(), &HeaderExtractor(headers));
        let span = tracer
            .span_builder(method.to_owned())
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", method.to_owned()),
            ])
            .start_with_context(tracer, &callers);
        Trace::Recorded(Recorded {
            tracer: tracer.clone(),
            scope: callers.with_span(span),
        })
    }
}

impl Exporting {
    /// Sends what there is. Blocks, for as long as the environment lets an export take.
    pub fn stop(self) {
        if let Err(error) = self.0.shutdown() {
            warn!(%error, "the last spans could not be sent");
        }
    }
}

pub(super) fn resource() -> Resource {
    let named_by_environment = Resource::builder().build();
    let name = named_by_environment
        .get(&"service.name".into())
        .map(|name| name.to_string())
        .filter(|name| !name.starts_with("unknown_service"))
        .unwrap_or_else(|| env!("CARGO_PKG_NAME").to_owned());
    Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_service_name(name)
        .build()
}

impl Trace {
    fn passing_on(headers: &HeaderMap) -> Self {
        let Some(parent) = headers
            .get(&TRACEPARENT)
            .filter(|value| is_traceparent(value))
        else {
            return Self::None;
        };
        let state = headers
            .get(&TRACESTATE)
            .filter(|state| state.len() <= MAX_TRACESTATE);
        Self::Passed(Arc::new(Passed {
            parent: parent.clone(),
            state: state.cloned(),
        }))
    }

    /// Ends the call's span.
    pub(crate) fn end(&self, code: Code, failure: Option<Row>) {
        let Self::Recorded(Recorded { scope, .. }) = self else {
            return;
        };
        let span = scope.span();
        span.set_attribute(KeyValue::new("rpc.response.status_code", code_name(code)));
        if let Some(row) = failure {
            span.set_attribute(KeyValue::new("onboardflow.reason", row.reason));
            span.set_attribute(KeyValue::new("onboardflow.write", row.write.as_str()));
        }
        if is_server_error(code) {
            span.set_attribute(KeyValue::new("error.type", code_name(code)));
            span.set_status(Status::error(""));
        }
        span.end();
    }

    /// Begins the span of an attempt.
    pub(super) fn attempt(&self, call: &Call, to: &Attempts, resends: u32) -> Self {
        let Self::Recorded(Recorded { tracer, scope }) = self else {
            return self.clone();
        };
        let [url, address, port] = to.server();
        let mut attributes = vec![
            KeyValue::new("http.request.method", call.method.as_str().to_owned()),
            KeyValue::new("server.address", address.to_owned()),
            KeyValue::new("server.port", port.parse::<i64>().unwrap_or_default()),
            KeyValue::new("url.full", format!("{url}{}", call.path)),
            KeyValue::new("url.template", call.template),
        ];
        if resends > 0 {
            attributes.push(KeyValue::new(
                "http.request.resend_count",
                i64::from(resends),
            ));
        }
        let span = tracer
            .span_builder(format!("{} {}", call.method, call.template))
            .with_kind(SpanKind::Client)
            .with_attributes(attributes)
            .start_with_context(tracer, scope);
        Self::Recorded(Recorded {
            tracer: tracer.clone(),
            scope: scope.with_span(span),
        })
    }

    /// Tells the other side, in these headers.
    pub(super) fn inject(&self, headers: &mut HeaderMap) {
        match self {
            Self::None => {}
            Self::Passed(passed) => {
                headers.insert(TRACEPARENT, passed.parent.clone());
                if let Some(state) = &passed.state {
                    headers.insert(TRACESTATE, state.clone());
                }
            }
            Self::Recorded(recorded) => TraceContextPropagator::new()
                .inject_context(&recorded.scope, &mut HeaderInjector(headers)),
        }
    }

    /// Ends the span of an attempt that was answered.
    pub(super) fn end_answered(&self, status: StatusCode) {
        let Self::Recorded(Recorded { scope, .. }) = self else {
            return;
        };
        let span = scope.span();
        let code = i64::from(status.as_u16());
        span.set_attribute(KeyValue::new("http.response.status_code", code));
        if status.is_client_error() || status.is_server_error() {
            span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            span.set_status(Status::error(""));
        }
        span.end();
    }

    /// Ends the span of an attempt without an answer.
    pub(super) fn end_lost(&self, error_type: &'static str) {
        let Self::Recorded(Recorded { scope, .. }) = self else {
            return;
        };
        let span = scope.span();
        span.set_attribute(KeyValue::new("error.type", error_type));
        span.set_status(Status::error(""));
        span.end();
    }
}

/// `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, so that no other text of a caller's gets into
/// the log or further.
fn is_traceparent(value: &HeaderValue) -> bool {
    let parts: Vec<_> = value.as_bytes().split(|&byte| byte == b'-').collect();
    let [version, trace, parent, flags] = parts[..] else {
        return false;
    };
    let is_hex = |part: &[u8], length| {
        part.len() == length && part.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    version == b"00" && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_callers_context_is_passed_on_where_nothing_is_traced() {
        let headers = HeaderMap::from_iter([
            (TRACEPARENT, HeaderValue::from_static(PARENT)),
            (TRACESTATE, HeaderValue::from_static("a=1")),
        ]);
        let trace = Tracer::default().call("m", &headers);
        let mut sent = HeaderMap::new();
        trace.inject(&mut sent);
        assert_eq!(sent, headers);
        assert_eq!(
            trace.id().as_deref(),
            Some("0af7651916cd43dd8448eb211c80319c")
        );
    }

    #[test]
    fn what_is_no_context_goes_no_further() {
        for text in [
            "",
            "jane@example.com",
            &PARENT[1..],
            &PARENT.to_uppercase(),
            &format!("{PARENT}-"),
        ] {
            assert!(
                !is_traceparent(&HeaderValue::from_str(text).unwrap()),
                "{text}"
            );
        }
    }
}
