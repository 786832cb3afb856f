//! Metrics, after calls of known fates.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Request, client::Grpc};
use tonic_prost::ProstCodec;

use onboardflow_gateway::{
    config::Credentials,
    proto::{self, CreateCustomerRequest, CreateCustomerResponse},
};

use crate::support::{
    CREATED, Config, Gateway, Upstream, create_request, eventually, logs, response, told,
    update_request,
};

/// The value of the one series whose line starts with this name and holds all of these labels.
fn value(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let start = format!("{name}{{");
    let mut found = metrics.lines().filter(|line| {
        (line.starts_with(&start) || labels.is_empty() && line.starts_with(&format!("{name} ")))
            && labels.iter().all(|label| line.contains(label))
    });
    let line = found.next()?;
    assert_eq!(found.next(), None, "more than one {name} with {labels:?}");
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn a_call_is_on_its_own_series() {
    let upstream = Upstream::answering(200, CREATED).await;
    let server = format!(r#"server_port="{}""#, upstream.address.port());
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        client.create_customer(create_request()).await.unwrap();
    }
    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();

    let create = [r#"grpc_method="CreateCustomer""#, r#"grpc_type="unary""#];
    let [method, kind] = create;
    let count = |name, labels: &[&str]| value(&metrics, name, labels);
    assert_eq!(count("grpc_server_started_total", &create), Some(3.0));
    let ok = [method, kind, r#"grpc_code="OK""#];
    assert_eq!(count("grpc_server_handled_total", &ok), Some(3.0));
    let internal = [method, kind, r#"grpc_code="Internal""#];
    assert_eq!(count("grpc_server_handled_total", &internal), Some(0.0));
    let duration = [
        r#"rpc_method="onboardflow.customer.v1.CustomerService/CreateCustomer""#,
        r#"rpc_system_name="grpc""#,
        r#"rpc_response_status_code="OK""#,
    ];
    assert_eq!(
        count("rpc_server_call_duration_seconds_count", &duration),
        Some(3.0)
    );
    let attempts = [
        r#"http_request_method="POST""#,
        r#"http_response_status_code="200""#,
        r#"url_template="/api/v1/customer/""#,
        r#"server_address="127.0.0.1""#,
        &server,
    ];
    assert_eq!(
        count("http_client_request_duration_seconds_count", &attempts),
        Some(3.0)
    );
    let [rpc_method, ..] = duration;
    assert_eq!(
        count("onboardflow_gateway_calls_in_flight", &[rpc_method]),
        Some(0.0)
    );
    assert_eq!(
        count("onboardflow_gateway_upstream_attempts_in_flight", &[]),
        Some(0.0)
    );
    assert!(metrics.ends_with("# EOF\n"));
    gateway.stop().await;
}

#[tokio::test]
async fn failures_say_why() {
    let upstream = Upstream::answering(500, "{}").await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.unwrap_err();
    let invalid = CreateCustomerRequest::default();
    client.create_customer(invalid).await.unwrap_err();
    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();

    let failed = |row| {
        let name = "onboardflow_gateway_failures_total";
        value(&metrics, name, &[row, "CreateCustomer"])
    };
    let row = r#"rpc_response_status_code="UNKNOWN",reason="UPSTREAM_FAILED",write="unknown""#;
    assert_eq!(failed(row), Some(1.0));
    let row =
        r#"rpc_response_status_code="INVALID_ARGUMENT",reason="INVALID_REQUEST",write="not_sent""#;
    assert_eq!(failed(row), Some(1.0));
    let refused = |reason| value(&metrics, "onboardflow_gateway_refusals_total", &[reason]);
    assert_eq!(refused(r#"reason="INVALID_REQUEST""#), Some(1.0));
    assert_eq!(refused(r#"reason="GATEWAY_OVERLOADED""#), Some(0.0));
    let attempt = [r#"http_response_status_code="500""#, r#"error_type="500""#];
    assert_eq!(
        value(
            &metrics,
            "http_client_request_duration_seconds_count",
            &attempt
        ),
        Some(1.0)
    );
    let call = [
        r#"rpc_response_status_code="UNKNOWN""#,
        r#"error_type="UNKNOWN""#,
    ];
    assert_eq!(
        value(&metrics, "rpc_server_call_duration_seconds_count", &call),
        Some(1.0)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_callers_own_key_that_is_refused_looked_like_the_gateways() {
    let upstream = Upstream::answering(401, "{}").await;
    let mut config = Config::new(upstream.url());
    config.upstream.credentials = Credentials::Caller;
    let gateway = Gateway::start(config).await;
    let mut request = Request::new(create_request());
    let metadata = request.metadata_mut();
    metadata.insert("authorization", "Token wrong".parse().unwrap());
    gateway.create(request).await.unwrap_err();

    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
    let refused = |code| {
        let reason = r#"reason="UPSTREAM_CREDENTIALS_REJECTED""#;
        let labels = [reason, code, r#"write="rejected""#, "CreateCustomer"];
        value(&metrics, "onboardflow_gateway_failures_total", &labels)
    };
    let callers = r#"rpc_response_status_code="UNAUTHENTICATED""#;
    assert_eq!(refused(callers), Some(1.0));
    let gateways = r#"rpc_response_status_code="INTERNAL""#;
    assert_eq!(refused(gateways), Some(0.0));
    gateway.stop().await;
}

#[tokio::test]
async fn an_unknown_method_does_not_become_a_label() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut grpc = Grpc::new(gateway.channel().await);
    for method in ["One", "Two"] {
        grpc.ready().await.unwrap();
        let path = format!("/onboardflow.customer.v1.CustomerService/{method}");
        let codec = ProstCodec::<CreateCustomerRequest, CreateCustomerResponse>::default();
        grpc.unary(Request::new(create_request()), path.parse().unwrap(), codec)
            .await
            .unwrap_err();
    }
    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
    let other = [r#"grpc_method="_OTHER""#, r#"grpc_code="Unimplemented""#];
    assert_eq!(
        value(&metrics, "grpc_server_handled_total", &other),
        Some(2.0)
    );
    assert!(!metrics.contains("CustomerService/One"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_goes_is_counted() {
    let upstream = Upstream::with(|mut stream| async move {
        let _ = stream.read_u8().await; // for ever
    })
    .await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    let call = client.update_customer(update_request());
    tokio::time::timeout(Duration::from_millis(200), call)
        .await
        .unwrap_err();

    let cancelled = [r#"grpc_method="UpdateCustomer""#, r#"grpc_code="Canceled""#];
    let attempt = [r#"http_request_method="PUT""#, r#"error_type="cancelled""#];
    let metrics = eventually("the call counted as cancelled", || {
        let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
        let counted = value(&metrics, "grpc_server_handled_total", &cancelled) == Some(1.0);
        counted.then_some(metrics)
    })
    .await;
    assert_eq!(
        value(
            &metrics,
            "http_client_request_duration_seconds_count",
            &attempt
        ),
        Some(1.0)
    );
    let update = [r#"rpc_method="onboardflow.customer.v1.CustomerService/UpdateCustomer""#];
    let failed = [update[0], r#"reason="CANCELLED""#, r#"write="unknown""#];
    assert_eq!(
        value(&metrics, "onboardflow_gateway_failures_total", &failed),
        Some(1.0)
    );
    assert_eq!(
        value(&metrics, "onboardflow_gateway_calls_in_flight", &update),
        Some(0.0)
    );
    drop(client);
    gateway.stop().await;
}

#[tokio::test]
async fn a_write_whose_caller_went_is_logged_with_what_became_of_it() {
    let upstream =
        Upstream::with(|mut stream| async move { while stream.read_u8().await.is_ok() {} }).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut request = Request::new(create_request());
    let metadata = request.metadata_mut();
    metadata.insert("x-request-id", "went-away-5d0c".parse().unwrap());
    tokio::time::timeout(Duration::from_millis(200), gateway.create(request))
        .await
        .unwrap_err();

    let line = eventually("the call's log line", || {
        let logs = logs::so_far();
        let of_call = |line: &&str| line.contains("went-away-5d0c") && line.contains("caller left");
        logs.lines().find(of_call).map(ToOwned::to_owned)
    })
    .await;
    assert!(
        line.contains(r#"reason="CANCELLED" write="unknown""#),
        "{line}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_refusal_after_a_lost_attempt_is_counted_as_unknown() {
    let is_first = AtomicBool::new(true);
    let refusal = response(400, &[], "{}");
    let upstream = Upstream::with(move |mut stream| {
        let is_first = is_first.swap(false, Ordering::Relaxed);
        let refusal = refusal.clone();
        async move {
            if !is_first {
                stream.write_all(&refusal).await.unwrap();
            }
        }
    })
    .await;
    let gateway = Gateway::before(upstream.url()).await;
    let told = told(&gateway.update(update_request()).await.unwrap_err());
    assert_eq!(
        (told.reason.as_str(), told.write.as_str()),
        ("UPSTREAM_REJECTED", "unknown")
    );

    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
    let failures = |write| {
        let labels = ["UpdateCustomer", r#"reason="UPSTREAM_REJECTED""#, write];
        let labels = [&labels[..], &[r#"code="INVALID_ARGUMENT""#]].concat();
        value(&metrics, "onboardflow_gateway_failures_total", &labels)
    };
    assert_eq!(failures(r#"write="unknown""#), Some(1.0));
    assert_eq!(failures(r#"write="rejected""#), Some(0.0));
    gateway.stop().await;
}

#[tokio::test]
async fn a_create_that_onboardflow_lets_wait_is_counted_as_a_timeout() {
    let upstream = Upstream::with(|mut stream| async move {
        let _ = stream.read_u8().await; // for ever
    })
    .await;
    let mut config = Config::new(upstream.url());
    config.server.default_timeout = Duration::from_millis(100);
    let gateway = Gateway::start(config).await;
    gateway.create(create_request()).await.unwrap_err();

    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
    let attempts = |why| {
        let labels = [r#"http_request_method="POST""#, why];
        let name = "http_client_request_duration_seconds_count";
        value(&metrics, name, &labels)
    };
    assert_eq!(attempts(r#"error_type="timeout""#), Some(1.0));
    assert_eq!(attempts(r#"error_type="cancelled""#), None);
    gateway.stop().await;
}

#[tokio::test]
async fn a_reply_that_has_grown_is_told_by_path() {
    let grown = CREATED.replacen(
        r#""data":{"#,
        r#""data":{"plan":{"x":1},"Jane@example.com":2,"#,
        1,
    );
    assert_ne!(grown, CREATED);
    let upstream = Upstream::answering(200, &grown).await;
    let gateway = Gateway::before(upstream.url()).await;
    gateway
        .client()
        .await
        .create_customer(create_request())
        .await
        .unwrap();
    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
    let unknown = |path| {
        value(
            &metrics,
            "onboardflow_gateway_reply_unknown_fields_total",
            &[path],
        )
    };
    assert_eq!(unknown(r#"path="data.plan""#), Some(1.0));
    assert_eq!(unknown(r#"path="_OTHER""#), Some(1.0));
    assert!(!metrics.contains("Jane"));
    gateway.stop().await;
}

/// The series of failures and of calls that are over.
fn outcomes(gateway: &Gateway) -> BTreeSet<String> {
    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
    let lines = metrics.lines().filter(|line| {
        line.starts_with("onboardflow_gateway_failures_total{")
            || line.starts_with("grpc_server_handled_total{")
    });
    let series = lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()));
    series.collect()
}

#[tokio::test]
async fn whatever_onboardflow_answers_counts_in_a_series_that_stood_at_zero() {
    for status in [
        302, 400, 401, 403, 404, 405, 408, 409, 412, 418, 422, 429, 500, 501, 502, 503, 504, 200,
    ] {
        let upstream = Upstream::answering(status, "{}").await;
        let gateway = Gateway::before(upstream.url()).await;
        let before = outcomes(&gateway);
        gateway.create(create_request()).await.unwrap_err();
        gateway.update(update_request()).await.unwrap_err();
        gateway
            .create(CreateCustomerRequest::default())
            .await
            .unwrap_err();
        let new: Vec<_> = outcomes(&gateway).difference(&before).cloned().collect();
        assert_eq!(new, [""; 0], "{status}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_fresh_gateway_shows_no_outcome_that_no_call_can_have() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    let outcomes = outcomes(&gateway);
    let shown = |labels: &[&str]| {
        let has_all = |line: &&String| labels.iter().all(|label| line.contains(label));
        outcomes.iter().filter(has_all).count()
    };
    // A refusal comes before anything is sent, and a create is never sent again.
    let create = "CustomerService/CreateCustomer";
    assert_eq!(shown(&["INVALID_REQUEST", r#"write="unknown""#]), 0);
    assert_eq!(
        shown(&[create, "UPSTREAM_REJECTED", r#"write="unknown""#]),
        0
    );
    assert_eq!(shown(&[create, r#""UNAVAILABLE",reason="UPSTREAM_FA"#]), 0);
    assert_eq!(shown(&["_OTHER"]), 0);
    assert_eq!(shown(&["OutOfRange"]) + shown(&["DataLoss"]), 0);
    let methods: usize = proto::services().iter().map(|of| of.methods.len()).sum();
    assert!(outcomes.len() < 54 * methods, "{} series", outcomes.len());
    gateway.stop().await;
}
