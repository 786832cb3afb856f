//! What keeps calls from an upstream that can't take them, and from being repeated.

use std::time::Duration;

use onboardflow_gateway::{
    config::BreakerConfig,
    config::{Credentials, KeyFiles},
};
use tonic::Request;
use tonic_types::StatusExt as _;

use crate::{
    support::{CREATED, Config, Gateway, Upstream, create_request, response, told, update_request},
    tls::until,
};

#[tokio::test]
async fn an_update_is_tried_again_after_502_and_a_create_is_not() {
    let upstream = Upstream::answering(502, "").await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;

    let failed = client.update_customer(update_request()).await.unwrap_err();
    assert_eq!(told(&failed).reason, "UPSTREAM_FAILED");
    assert_eq!(upstream.received().len(), 3);

    client.create_customer(create_request()).await.unwrap_err();
    assert_eq!(upstream.received().len(), 4);
    gateway.stop().await;
}

/// An update may be tried three times, but not where whoever repeats it stands in front already.
#[tokio::test]
async fn a_call_that_says_it_is_a_repeat_is_tried_once() {
    let upstream = Upstream::answering(502, "").await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    for (name, value, attempts) in [
        ("x-envoy-attempt-count", "1", 3),
        ("x-envoy-attempt-count", "2", 1),
        ("grpc-previous-rpc-attempts", "1", 1),
    ] {
        let before = upstream.received().len();
        let mut request = Request::new(update_request());
        request.metadata_mut().insert(name, value.parse().unwrap());
        client.update_customer(request).await.unwrap_err();
        assert_eq!(
            upstream.received().len() - before,
            attempts,
            "{name} {value}"
        );
    }
    gateway.stop().await;
}

/// Envoy repeats an update answered with UNAVAILABLE twice, under the same request id.
#[tokio::test]
async fn attempts_at_a_call_and_its_repeats_are_max_attempts_together() {
    let upstream = Upstream::answering(502, "").await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    for count in ["1", "2", "3"] {
        let mut request = Request::new(update_request());
        let metadata = request.metadata_mut();
        metadata.insert("x-request-id", "the-same".parse().unwrap());
        metadata.insert("x-envoy-attempt-count", count.parse().unwrap());
        let failed = told(&client.update_customer(request).await.unwrap_err());
        assert_eq!(
            (&*failed.reason, &*failed.write),
            ("UPSTREAM_FAILED", "unknown")
        );
        assert_eq!(upstream.received().len(), 3);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_503_is_answered_by_the_gateway_from_then_on() {
    let answer = response(503, &[("retry-after", "120")], "");
    let upstream = Upstream::saying(answer).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    let first = told(&client.create_customer(create_request()).await.unwrap_err());
    assert_eq!(
        (&*first.reason, &*first.write),
        ("UPSTREAM_MAINTENANCE", "rejected")
    );
    for _ in 0..2 {
        let repeat = client.create_customer(create_request()).await.unwrap_err();
        let told = told(&repeat);
        assert_eq!(
            (&*told.reason, &*told.write),
            ("UPSTREAM_MAINTENANCE", "not_sent")
        );
        let delay = repeat
            .get_details_retry_info()
            .unwrap()
            .retry_delay
            .unwrap();
        assert!(delay > Duration::from_secs(60) && delay <= Duration::from_secs(120));
    }
    assert_eq!(upstream.received().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn failures_in_a_row_open_the_circuit() {
    let upstream = Upstream::answering(500, "").await;
    let mut config = Config::new(upstream.url());
    config.upstream.breaker = Some(BreakerConfig {
        failures: 3,
        ..BreakerConfig::default()
    });
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        client.create_customer(create_request()).await.unwrap_err();
    }
    let refused = client.create_customer(create_request()).await.unwrap_err();
    let refusal = told(&refused);
    assert_eq!(refusal.reason, "UPSTREAM_CIRCUIT_OPEN");
    assert_eq!(refusal.write, "not_sent");
    assert!(refused.get_details_retry_info().is_some());
    assert_eq!(upstream.received().len(), 3);

    // These were one site's failures: another's calls go on.
    let mut other = create_request();
    other.site_key = "another".to_owned();
    let failed = client.create_customer(other).await.unwrap_err();
    assert_eq!(told(&failed).reason, "UPSTREAM_FAILED");
    gateway.stop().await;
}

#[tokio::test]
async fn a_quota_that_is_spent_costs_no_more_calls() {
    let answer = response(429, &[("retry-after", "3600")], "{}");
    let upstream = Upstream::saying(answer).await;
    let gateway = Gateway::before(upstream.url()).await;
    let spent = "onboardflow_gateway_upstream_quota_spent_seconds{key=\"default\"}";
    assert_eq!(gateway.metric(spent), 0);
    let mut client = gateway.client().await;
    let first = told(&client.create_customer(create_request()).await.unwrap_err());
    assert_eq!(
        (first.reason.as_str(), first.write.as_str()),
        ("UPSTREAM_QUOTA_EXHAUSTED", "rejected")
    );
    // What the alert asks for.
    assert!(gateway.metric(spent) > 3500);

    let second = client.update_customer(update_request()).await.unwrap_err();
    assert_eq!(second.code(), tonic::Code::ResourceExhausted);
    assert_eq!(told(&second).write, "not_sent");
    let retry = second
        .get_details_retry_info()
        .unwrap()
        .retry_delay
        .unwrap();
    assert!(retry > Duration::from_secs(3500), "{retry:?}");
    assert!(second.get_details_quota_failure().is_some());
    assert_eq!(upstream.received().len(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_daily_quota_of_our_own() {
    let upstream = Upstream::answering(201, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.upstream.daily_quota = Some(2);
    let gateway = Gateway::start(config).await;
    let left = |calls: u64| {
        let line = format!("onboardflow_gateway_upstream_quota_left{{key=\"default\"}} {calls}\n");
        let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
        assert!(metrics.contains(&line), "{metrics}");
    };
    let mut client = gateway.client().await;
    for before in [2, 1] {
        left(before);
        client.create_customer(create_request()).await.unwrap();
    }
    left(0);
    let refused = client.create_customer(create_request()).await.unwrap_err();
    assert_eq!(told(&refused).reason, "UPSTREAM_QUOTA_EXHAUSTED");
    assert_eq!(told(&refused).write, "not_sent");
    assert!(refused.get_details_quota_failure().is_some());
    assert_eq!(upstream.received().len(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn keys_of_sites_and_new_keys_are_taken_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sites.toml");
    std::fs::write(&file, "f37F2PPh = \"first\"").unwrap();
    let files = KeyFiles {
        fixed: None,
        default: None,
        sites: Some(file.clone()),
    };
    let upstream = Upstream::answering(201, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.upstream.credentials = Credentials::Files {
        files,
        scheme: onboardflow_gateway::config::AuthScheme::Token,
    };
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.unwrap();
    let mut other = create_request();
    other.site_key = "another".to_owned();
    let refused = client.create_customer(other).await.unwrap_err();
    assert_eq!(told(&refused).reason, "INVALID_REQUEST");
    let fields = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!(fields[0].field, "site_key");

    std::fs::write(&file, "f37F2PPh = \"second\"").unwrap();
    let keys = || -> Vec<_> {
        let received = upstream.received();
        let keys = received.iter().map(|call| call.header("authorization"));
        keys.map(|key| key.unwrap().to_owned()).collect()
    };
    until("the new key is in use", async || {
        client.create_customer(create_request()).await.unwrap();
        keys().last().unwrap() == "Token second"
    })
    .await;
    assert_eq!(keys()[0], "Token first");
    gateway.stop().await;
}

#[tokio::test]
async fn the_trace_crosses_and_nothing_else_does() {
    let upstream = Upstream::answering(201, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut request = Request::new(create_request());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (name, value) in [
        ("traceparent", trace),
        ("tracestate", "a=b"),
        ("cookie", "secret"),
        ("authorization", "Bearer mine"),
        ("x-forwarded-for", "192.0.2.1"),
        ("baggage", "a=b"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    gateway
        .client()
        .await
        .create_customer(request)
        .await
        .unwrap();
    let received = &upstream.received()[0];
    assert_eq!(received.header("traceparent"), Some(trace));
    assert_eq!(received.header("tracestate"), Some("a=b"));
    let mut names: Vec<_> = received
        .head
        .lines()
        .skip(1)
        .map(|line| line.split(':').next().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "traceparent",
            "tracestate",
            "user-agent",
            "x-request-id",
        ]
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_call_that_was_sent_before_is_not_sent_again_by_the_gateway() {
    for (name, value, attempts) in [
        ("x-envoy-attempt-count", "1", 3),
        ("x-envoy-attempt-count", "2", 1),
        ("grpc-previous-rpc-attempts", "1", 1),
    ] {
        let upstream = Upstream::answering(502, "").await;
        let mut config = Config::new(upstream.url());
        config.upstream.max_attempts = 3;
        let gateway = Gateway::start(config).await;
        let mut request = tonic::Request::new(update_request());
        request.metadata_mut().insert(name, value.parse().unwrap());
        gateway.update(request).await.unwrap_err();
        assert_eq!(upstream.received().len(), attempts, "{name}: {value}");
        gateway.stop().await;
    }
}
