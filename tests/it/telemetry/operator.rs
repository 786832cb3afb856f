//! What an operator finds in the log when something is refused.

use onboardflow_gateway::config::{AuthScheme, Credentials, KeyFiles};
use rustls::version::TLS13;
use tonic::Request;

use crate::{
    support::{
        Config, Gateway, Upstream,
        certificates::{Authority, Secret},
        create_request, eventually, logs,
    },
    tls::{self, NAME},
};

/// The log line with all of these in it.
async fn line(parts: &[&str]) -> String {
    eventually(&format!("a line with {parts:?}"), || {
        let logs = logs::so_far();
        let found = logs
            .lines()
            .find(|line| parts.iter().all(|part| line.contains(part)));
        found.map(ToOwned::to_owned)
    })
    .await
}

fn named(request_id: &str) -> Request<onboardflow_gateway::proto::CreateCustomerRequest> {
    let mut request = Request::new(create_request());
    let metadata = request.metadata_mut();
    metadata.insert("x-request-id", request_id.parse().unwrap());
    request
}

#[tokio::test]
async fn a_refused_caller_is_logged_with_cause_and_peer() {
    let upstream = Upstream::answering(200, "{}").await;
    let mut config = Config::new(upstream.url());
    config.upstream.credentials = Credentials::Caller;
    let gateway = Gateway::start(config).await;
    gateway.create(named("refused-77ab")).await.unwrap_err();

    let line = line(&["refused-77ab"]).await;
    assert!(line.contains("CALLER_UNAUTHENTICATED"), "{line}");
    assert!(line.contains("authorization metadata"), "{line}");
    assert!(line.contains("peer=127.0.0.1:"), "{line}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_failed_tls_handshake_is_logged_with_its_peer_and_counted() {
    let ca = Authority::new();
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let gateway = tls::gateway(&secret, true).await;
    // It presents no certificate, which the gateway sees after the client's part is done.
    let stream = tls::handshake(&gateway, &ca, &TLS13, b"h2").await.unwrap();
    let peer = format!("peer={}", stream.get_ref().0.local_addr().unwrap());

    let line = line(&[&peer, "the TLS handshake failed"]).await;
    assert!(line.contains("INFO"), "{line}");
    assert!(line.contains("peer sent no certificates"), "{line}");
    assert_eq!(
        gateway.closed(onboardflow_gateway::telemetry::Closed::TlsFailed),
        1
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_refused_key_is_named_by_its_site() {
    let folder = tempfile::tempdir().unwrap();
    let sites = folder.path().join("sites.toml");
    std::fs::write(&sites, "f37F2PPh = \"secret-of-the-site\"").unwrap();
    let upstream = Upstream::answering(401, r#"{"detail": "Invalid token."}"#).await;
    let mut config = Config::new(upstream.url());
    config.upstream.credentials = Credentials::Files {
        files: KeyFiles {
            fixed: None,
            default: None,
            sites: Some(sites),
        },
        scheme: AuthScheme::Token,
    };
    let gateway = Gateway::start(config).await;
    gateway.create(named("refused-key-1c0f")).await.unwrap_err();

    let line = line(&["refused-key-1c0f"]).await;
    assert!(line.contains("UPSTREAM_CREDENTIALS_REJECTED"), "{line}");
    assert!(line.contains("site-b30ef3aa"), "{line}");
    assert!(!line.contains("secret-of-the-site"), "{line}");
    gateway.stop().await;
}
