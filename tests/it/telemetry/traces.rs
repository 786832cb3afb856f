//! Spans, as an exporter gets them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use onboardflow_gateway::telemetry::{Telemetry, Tracer};
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use tonic::Request;

use crate::support::{CREATED, Config, Gateway, Upstream, create_request};

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, mut spans: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().append(&mut spans);
        Ok(())
    }
}

/// The spans of one call with this `traceparent`, the attempt's first, and what the upstream got.
async fn spans(status: u16, traceparent: &str) -> (Vec<SpanData>, String) {
    let upstream = Upstream::answering(status, CREATED).await;
    let kept = Kept::default();
    let (tracer, _exporting) = Tracer::exporting_to(kept.clone());
    let gateway = Gateway::start(Config {
        telemetry: Telemetry {
            tracer,
            ..Telemetry::default()
        },
        ..Config::new(upstream.url())
    })
    .await;
    let mut request = Request::new(create_request());
    request
        .metadata_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    let _ = gateway.client().await.create_customer(request).await;
    gateway.stop().await;
    let sent = upstream.received()[0]
        .header("traceparent")
        .unwrap()
        .to_owned();
    let spans = kept.0.lock().unwrap().clone();
    (spans, sent)
}

fn attributes(span: &SpanData) -> HashMap<String, String> {
    let pairs = span.attributes.iter();
    pairs
        .map(|pair| (pair.key.to_string(), pair.value.to_string()))
        .collect()
}

#[tokio::test]
async fn a_call_and_its_attempt_are_spans_of_the_callers_trace() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let (spans, sent) = spans(200, parent).await;
    let [client, server] = &spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(
        server.name,
        "onboardflow.customer.v1.CustomerService/CreateCustomer"
    );
    assert_eq!(server.span_kind, SpanKind::Server);
    assert_eq!(
        server.parent_span_id,
        SpanId::from_hex("b7ad6b7169203331").unwrap()
    );
    assert_eq!(client.span_kind, SpanKind::Client);
    assert_eq!(client.name, "POST /api/v1/customer/");
    assert_eq!(client.parent_span_id, server.span_context.span_id());
    for span in [server, client] {
        assert_eq!(span.span_context.trace_id().to_string(), &parent[3..35]);
        assert_eq!(span.status, Status::Unset);
    }
    assert_eq!(
        sent,
        format!("{}-{}-01", &parent[..35], client.span_context.span_id())
    );

    let server = attributes(server);
    assert_eq!(server["rpc.system.name"], "grpc");
    assert_eq!(server["rpc.response.status_code"], "OK");
    let client = attributes(client);
    assert_eq!(client["http.request.method"], "POST");
    assert_eq!(client["http.response.status_code"], "200");
    assert_eq!(client["url.template"], "/api/v1/customer/");
    assert_eq!(client["server.address"], "127.0.0.1");
    assert!(
        client["url.full"].ends_with("/api/v1/customer/"),
        "{client:?}"
    );
}

#[tokio::test]
async fn a_failure_is_on_both_spans() {
    let (spans, _) = spans(
        500,
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    .await;
    let [client, server] = &spans[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(attributes(client)["error.type"], "500");
    assert_eq!(attributes(server)["error.type"], "UNKNOWN");
    assert_eq!(attributes(server)["onboardflow.reason"], "UPSTREAM_FAILED");
    assert!(matches!(server.status, Status::Error { .. }));
}

#[tokio::test]
async fn the_callers_sampling_holds() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let (spans, sent) = spans(200, parent).await;
    assert_eq!(spans.len(), 0);
    assert!(
        sent.starts_with(&parent[..35]) && sent.ends_with("-00"),
        "{sent}"
    );
}

#[test]
fn an_endpoint_that_is_none_is_bad_configuration() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_onboardflow-gateway"))
        .args([
            "sandbox",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
        ])
        .args(["--default-timeout=0s"])
        .env_clear()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    let problem = "OTEL_EXPORTER_OTLP_ENDPOINT: must be an http or https URL";
    assert!(said.contains(problem), "{said}");
    assert!(said.contains("--default-timeout"), "all in one run: {said}");
}
