//! The table of failures, row by row, for both calls.

use std::time::Duration;

use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use onboardflow_gateway::{
    config::Credentials, proto::customer_service_client::CustomerServiceClient,
};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::support::{
    CREATED, Config, Gateway, KEY, Told, Upstream, create_request, nobody, response, told,
    update_request,
};

/// What both calls are told when the upstream says this. Each has a gateway of its own, as a gateway
/// remembers a spent quota.
async fn told_of(status: u16, headers: &[(&str, &str)], body: &str) -> [Status; 2] {
    let upstream = Upstream::saying(response(status, headers, body)).await;
    let gateway = Gateway::before(upstream.url()).await;
    let create = gateway.create(create_request()).await.unwrap_err();
    gateway.stop().await;
    assert_eq!(upstream.received().len(), 1, "a create is sent once");
    let gateway = Gateway::before(upstream.url()).await;
    let update = gateway.update(update_request()).await.unwrap_err();
    gateway.stop().await;
    [create, update]
}

fn row(code: Code, reason: &str, write: &str, http_status: u16) -> Told {
    Told {
        code,
        reason: reason.to_owned(),
        write: write.to_owned(),
        http_status: Some(http_status.to_string()),
    }
}

#[tokio::test]
async fn every_status_has_its_row() {
    use Code::*;

    const HTML: &str = "<html><body>Sorry</body></html>";
    #[rustfmt::skip]
    let rows = [
        // status, create, update, reason, write
        (301, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (302, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (304, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (307, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (400, InvalidArgument, InvalidArgument, "UPSTREAM_REJECTED", "rejected"),
        (401, Internal, Internal, "UPSTREAM_CREDENTIALS_REJECTED", "rejected"),
        (402, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (403, Internal, Internal, "UPSTREAM_CREDENTIALS_REJECTED", "rejected"),
        (404, NotFound, NotFound, "UPSTREAM_NOT_FOUND", "rejected"),
        (405, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (406, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (408, DeadlineExceeded, DeadlineExceeded, "UPSTREAM_TIMEOUT", "unknown"),
        (409, AlreadyExists, Aborted, "UPSTREAM_CONFLICT", "rejected"),
        (410, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (412, FailedPrecondition, FailedPrecondition, "UPSTREAM_REJECTED", "rejected"),
        (413, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (415, Internal, Internal, "UPSTREAM_CONTRACT_BROKEN", "rejected"),
        (422, InvalidArgument, InvalidArgument, "UPSTREAM_REJECTED", "rejected"),
        (429, ResourceExhausted, ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED", "rejected"),
        (500, Unknown, Unknown, "UPSTREAM_FAILED", "unknown"),
        (501, Unimplemented, Unimplemented, "UPSTREAM_FAILED", "rejected"),
        (502, Unknown, Unavailable, "UPSTREAM_FAILED", "unknown"),
        (503, Unavailable, Unavailable, "UPSTREAM_MAINTENANCE", "rejected"),
        (504, DeadlineExceeded, DeadlineExceeded, "UPSTREAM_TIMEOUT", "unknown"),
        (505, Unknown, Unknown, "UPSTREAM_FAILED", "unknown"),
        (599, Unknown, Unknown, "UPSTREAM_FAILED", "unknown"),
    ];
    for (status, create_code, update_code, reason, write) in rows {
        let [create, update] = told_of(status, &[("location", "/elsewhere/")], HTML).await;
        assert_eq!(told(&create), row(create_code, reason, write, status));
        assert_eq!(told(&update), row(update_code, reason, write, status));
        for status in [create, update] {
            assert!(!status.message().contains("Sorry"), "{status:?}");
        }
    }
}

#[tokio::test]
async fn fields_at_fault_are_named_by_their_proto_paths() {
    let body = r#"{
        "customer_email": ["test@onboardflow.com is no address."],
        "customer_has_payment_method": ["Must be a valid boolean."],
        "custom_properties": {"colour": ["Unknown."]},
        "plan": ["Too small."],
        "non_field_errors": ["Joe can't be saved."]
    }"#;
    for status in told_of(400, &[("content-type", "application/json")], body).await {
        told(&status);
        assert!(
            status.message().contains(
                "[redacted] can't be saved. Too small. (names of unknown fields left out: 2)"
            ),
            "{status:?}"
        );
        let details = status.get_error_details();
        let mut violations: Vec<_> = details
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|violation| (violation.field.as_str(), violation.description.as_str()))
            .collect();
        violations.sort_unstable();
        assert_eq!(
            violations,
            [
                ("custom_properties", "Unknown."),
                ("customer.email", "[redacted] is no address."),
                ("customer.has_payment_method", "Must be a valid boolean."),
            ]
        );
    }
}

#[tokio::test]
async fn a_spent_quota_says_when_it_is_renewed() {
    let in_header = told_of(429, &[("retry-after", "86399")], "").await;
    let body = r#"{"detail": "Request was throttled. Expected available in 86399 seconds."}"#;
    let in_body = told_of(429, &[], body).await;
    for status in in_header.into_iter().chain(in_body) {
        told(&status);
        let details = status.get_error_details();
        let delay = details.retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(Duration::from_secs(86_399)));
        assert_eq!(details.quota_failure().unwrap().violations.len(), 1);
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        assert_eq!(pushback.unwrap(), "-1");
    }
}

#[tokio::test]
async fn maintenance_says_how_long() {
    for (headers, seconds) in [(&[("retry-after", "120")][..], 120), (&[][..], 60)] {
        for status in told_of(503, headers, "<h1>Down</h1>").await {
            told(&status);
            let details = status.get_error_details();
            let delay = details.retry_info().unwrap().retry_delay;
            assert_eq!(delay, Some(Duration::from_secs(seconds)));
            let pushback = status.metadata().get("grpc-retry-pushback-ms");
            assert_eq!(pushback.unwrap(), "-1");
        }
    }
}

#[tokio::test]
async fn callers_keys_that_fail_are_the_callers_business() {
    for (status, code) in [(401, Code::Unauthenticated), (403, Code::PermissionDenied)] {
        let upstream = Upstream::answering(status, r#"{"detail": "Invalid token."}"#).await;
        let mut config = Config::new(upstream.url());
        config.upstream.credentials = Credentials::Caller;
        let gateway = Gateway::start(config).await;
        let mut request = Request::new(create_request());
        let authorization = format!("Token {KEY}").parse().unwrap();
        request
            .metadata_mut()
            .insert("authorization", authorization);
        let failure = gateway.create(request).await.unwrap_err();
        gateway.stop().await;
        assert_eq!(
            told(&failure),
            row(code, "UPSTREAM_CREDENTIALS_REJECTED", "rejected", status)
        );
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there() {
    let gateway = Gateway::before(nobody().await).await;
    let create = gateway.create(create_request()).await.unwrap_err();
    let update = gateway.update(update_request()).await.unwrap_err();
    gateway.stop().await;
    for status in [create, update] {
        assert_eq!(
            told(&status),
            Told {
                code: Code::Unavailable,
                reason: "UPSTREAM_UNREACHABLE".to_owned(),
                write: "not_sent".to_owned(),
                http_status: None,
            }
        );
        assert!(status.get_error_details().retry_info().is_some());
    }
}

#[tokio::test]
async fn a_connection_lost_before_the_answer() {
    let upstream = Upstream::saying("").await;
    let gateway = Gateway::before(upstream.url()).await;
    let create = gateway.create(create_request()).await.unwrap_err();
    let update = gateway.update(update_request()).await.unwrap_err();
    gateway.stop().await;
    for (status, code) in [(create, Code::Unknown), (update, Code::Unavailable)] {
        assert_eq!(
            told(&status),
            Told {
                code,
                reason: "UPSTREAM_CONNECTION_LOST".to_owned(),
                write: "unknown".to_owned(),
                http_status: None,
            }
        );
    }
}

#[tokio::test]
async fn a_deadline_that_passes_before_the_answer() {
    let upstream = Upstream::with(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let mut config = Config::new(upstream.url());
    config.server.default_timeout = Duration::from_millis(300);
    let gateway = Gateway::start(config).await;
    let status = gateway.create(create_request()).await.unwrap_err();
    gateway.stop().await;
    assert_eq!(upstream.received().len(), 1);
    assert_eq!(
        told(&status),
        Told {
            code: Code::DeadlineExceeded,
            reason: "DEADLINE_EXCEEDED".to_owned(),
            write: "unknown".to_owned(),
            http_status: None,
        }
    );
}

#[tokio::test]
async fn a_deadline_that_has_passed_at_arrival_sends_nothing() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    // tonic's own transport would keep the timeout itself.
    let http2 = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let origin = format!("http://{}", gateway.address).parse().unwrap();
    let mut client = CustomerServiceClient::with_origin(http2, origin);
    for timeout in ["0S", "1n"] {
        let mut request = Request::new(create_request());
        let metadata = request.metadata_mut();
        metadata.insert("grpc-timeout", timeout.parse().unwrap());
        let told = told(&client.create_customer(request).await.unwrap_err());
        assert_eq!(
            (told.code, told.write.as_str()),
            (Code::DeadlineExceeded, "not_sent"),
            "{timeout}"
        );
    }
    gateway.stop().await;
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_deadline_that_passes_before_anything_is_sent() {
    // Takes connections, and never answers the TLS hello.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let mut config = Config::new(url.parse().unwrap());
    config.server.default_timeout = Duration::from_millis(300);
    let gateway = Gateway::start(config).await;
    let status = gateway.create(create_request()).await.unwrap_err();
    gateway.stop().await;
    let told = told(&status);
    assert_eq!(
        (told.code, told.write.as_str()),
        (Code::DeadlineExceeded, "not_sent")
    );
}
