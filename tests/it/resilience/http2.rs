//! HTTP/2 upstream, by ALPN, where a server can say that it did not look at a request.

use std::time::Duration;

use crate::support::{Config, Gateway, Http2, Manner, create_request, told, update_request};

async fn gateway_before(upstream: &Http2) -> Gateway {
    let mut config = Config::new(upstream.url());
    config.upstream.extra_roots = vec![upstream.certificate.clone()];
    Gateway::start(config).await
}

#[tokio::test]
async fn calls_share_a_connection() {
    let upstream = Http2::start(Manner::Answers).await;
    let gateway = gateway_before(&upstream).await;
    let client = gateway.client().await;
    let calls = (0..50).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.create_customer(create_request()).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert_eq!((upstream.connections(), upstream.requests()), (1, 50));
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_stream_is_tried_again() {
    let upstream = Http2::start(Manner::Refuses(2)).await;
    let gateway = gateway_before(&upstream).await;
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.unwrap();
    assert_eq!((upstream.refused(), upstream.requests()), (2, 1));
    gateway.stop().await;
}

/// The server's word that it did nothing is as good as nothing sent.
#[tokio::test]
async fn streams_that_are_always_refused() {
    let upstream = Http2::start(Manner::Refuses(usize::MAX)).await;
    let gateway = gateway_before(&upstream).await;
    let refused = gateway
        .client()
        .await
        .create_customer(create_request())
        .await;
    let told = told(&refused.unwrap_err());
    assert_eq!(
        (told.reason.as_str(), told.write.as_str()),
        ("UPSTREAM_UNREACHABLE", "not_sent")
    );
    assert_eq!((upstream.refused(), upstream.requests()), (3, 0));
    gateway.stop().await;
}

/// The request that the GOAWAY leaves out goes over another connection, without an error.
#[tokio::test]
async fn a_goaway_moves_a_create_to_another_connection() {
    for after in [0, 1, 3] {
        let upstream = Http2::start(Manner::GoesAway(after)).await;
        let gateway = gateway_before(&upstream).await;
        let mut client = gateway.client().await;
        for _ in 0..after + 2 {
            client.create_customer(create_request()).await.unwrap();
        }
        assert_eq!(
            (upstream.connections(), upstream.requests()),
            (2, after + 2)
        );
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_connection_lost_after_the_request() {
    let upstream = Http2::start(Manner::HangsUp).await;
    let gateway = gateway_before(&upstream).await;
    let mut client = gateway.client().await;
    let lost = told(&client.create_customer(create_request()).await.unwrap_err());
    assert_eq!(
        (lost.reason.as_str(), lost.write.as_str()),
        ("UPSTREAM_CONNECTION_LOST", "unknown")
    );
    assert_eq!(upstream.requests(), 1);
    let lost = told(&client.update_customer(update_request()).await.unwrap_err());
    assert_eq!(
        (lost.reason.as_str(), lost.write.as_str()),
        ("UPSTREAM_CONNECTION_LOST", "unknown")
    );
    assert_eq!(upstream.requests(), 4, "an update is tried again");
    gateway.stop().await;
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for() {
    let upstream = Http2::start(Manner::Answers).await;
    let gateway = Gateway::before(upstream.url()).await;
    let refused = gateway
        .client()
        .await
        .create_customer(create_request())
        .await;
    let told = told(&refused.unwrap_err());
    assert_eq!(
        (told.reason.as_str(), told.write.as_str()),
        ("UPSTREAM_UNREACHABLE", "not_sent")
    );
    assert_eq!(upstream.requests(), 0);
    gateway.stop().await;
}

/// It cost a minute: every call until the pings gave up.
#[tokio::test]
async fn a_connection_that_falls_silent_costs_one_call() {
    let upstream = Http2::start(Manner::FallsSilent(1)).await;
    let mut config = Config::new(upstream.url());
    config.upstream.extra_roots = vec![upstream.certificate.clone()];
    config.server.default_timeout = Duration::from_secs(2);
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.unwrap();
    let lost = told(&client.create_customer(create_request()).await.unwrap_err());
    assert_eq!(
        (lost.reason.as_str(), lost.write.as_str()),
        ("DEADLINE_EXCEEDED", "unknown")
    );
    client.create_customer(create_request()).await.unwrap();
    assert_eq!(upstream.connections(), 2);
    gateway.stop().await;
}

/// Dialled before the first call, and again when the server closes it.
#[tokio::test]
async fn a_warm_connection_is_there_before_the_first_call() {
    let upstream = Http2::start(Manner::HangsUp).await;
    let mut config = Config::new(upstream.url());
    config.upstream.extra_roots = vec![upstream.certificate.clone()];
    config.upstream.warm_connections = 1;
    let gateway = Gateway::start(config).await;
    upstream.has_connections(1).await;
    gateway.create(create_request()).await.unwrap_err();
    upstream.has_connections(2).await;
    assert_eq!(upstream.requests(), 1);
    gateway.stop().await;
}
