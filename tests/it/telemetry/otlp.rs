//! Metrics by OTLP, as a collector gets them from the program.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Uri},
};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{Metric, metric::Data, number_data_point::Value as Number},
};
use prost::Message as _;
use tokio::net::TcpListener;

use crate::{
    support::{Process, create_request},
    tls::until,
};

type Got = Arc<Mutex<Vec<(Uri, HeaderMap, ExportMetricsServiceRequest)>>>;

async fn collector() -> (String, Got) {
    async fn take(State(got): State<Got>, uri: Uri, headers: HeaderMap, body: Bytes) {
        // Spans come too.
        if uri.path().ends_with("metrics") {
            let request = ExportMetricsServiceRequest::decode(body).unwrap();
            got.lock().unwrap().push((uri, headers, request));
        }
    }
    let got = Got::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(take).with_state(Arc::clone(&got));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, got)
}

/// A sandbox with this environment.
async fn sandbox(environment: &[(&str, &str)]) -> Process {
    Process::run(&["sandbox"], environment).await
}

/// The metric of this name in the last export.
fn metric(got: &Got, name: &str) -> Option<Metric> {
    let got = got.lock().unwrap();
    let (_, _, request) = got.last()?;
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    metrics.iter().find(|metric| metric.name == name).cloned()
}

fn has(attributes: &[KeyValue], key: &str, value: &str) -> bool {
    attributes.iter().any(|pair| {
        let text = pair.value.as_ref().and_then(|value| value.value.as_ref());
        pair.key == key && matches!(text, Some(Value::StringValue(text)) if text == value)
    })
}

/// The count of created customers in the last export.
fn created(got: &Got) -> Option<f64> {
    let Data::Sum(sum) = metric(got, "grpc_server_handled_total")?.data? else {
        panic!("a counter is a sum");
    };
    assert!(
        sum.is_monotonic && sum.aggregation_temporality == 2,
        "cumulative"
    );
    let points = sum.data_points.into_iter();
    let mut points = points.filter(|point| {
        has(&point.attributes, "grpc_method", "CreateCustomer")
            && has(&point.attributes, "grpc_code", "OK")
    });
    match points.next()?.value? {
        Number::AsDouble(count) => Some(count),
        Number::AsInt(_) => panic!("all numbers are doubles"),
    }
}

#[tokio::test]
async fn metrics_are_sent_from_the_instruments_of_the_scrape() {
    let (url, got) = collector().await;
    let sandbox = sandbox(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%20b"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ("OTEL_SERVICE_NAME", "named"),
    ])
    .await;
    let mut client = sandbox.client().await;
    for _ in 0..3 {
        client.create_customer(create_request()).await.unwrap();
    }
    until("three calls are told", async || created(&got) == Some(3.0)).await;

    let duration = metric(&got, "rpc_server_call_duration_seconds").unwrap();
    assert_eq!(duration.unit, "s");
    let Some(Data::Histogram(histogram)) = duration.data else {
        panic!("a histogram stays one");
    };
    let point = &histogram.data_points[0];
    assert_eq!(point.count, 3);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 3, "each by itself");
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert!(point.sum.unwrap() > 0.0 && point.start_time_unix_nano <= point.time_unix_nano);
    let in_flight = metric(&got, "onboardflow_gateway_calls_in_flight").unwrap();
    assert!(matches!(in_flight.data, Some(Data::Gauge(_))));

    let got = got.lock().unwrap();
    let (uri, headers, request) = got.last().unwrap();
    assert_eq!(uri.path(), "/v1/metrics");
    assert_eq!(headers["x-tenant"], "a b");
    let resource = request.resource_metrics[0].resource.as_ref().unwrap();
    assert!(
        has(&resource.attributes, "service.name", "named"),
        "{resource:?}"
    );
}

#[tokio::test]
async fn metrics_have_an_endpoint_and_a_switch_of_their_own() {
    let (url, got) = collector().await;
    let (own, got_own) = collector().await;
    let _sandbox = sandbox(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
        (
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            &format!("{own}/own/metrics"),
        ),
        ("OTEL_METRIC_EXPORT_INTERVAL", "50"),
    ])
    .await;
    until("sent there", async || !got_own.lock().unwrap().is_empty()).await;
    assert_eq!(got_own.lock().unwrap()[0].0.path(), "/own/metrics");
    assert!(got.lock().unwrap().is_empty());

    // What is left at the end is sent too, so that a switch that is off shows by then.
    for (switch, exports) in [("none", 0), ("prometheus", 0), ("otlp", 1)] {
        let (url, got) = collector().await;
        let sandbox = sandbox(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &url),
            ("OTEL_METRICS_EXPORTER", switch),
        ])
        .await;
        assert_eq!(sandbox.stop().await.0, Some(0));
        assert_eq!(got.lock().unwrap().len(), exports, "{switch}");
    }
}
