//! The dashboard and the alerts ask for metrics that there are, by labels that they have.

use std::collections::BTreeSet;

use onboardflow_gateway::telemetry::{BreakerState, Metrics, Secret};

use crate::support::{Config, Gateway, Upstream, create_request};

const RULES: &str = include_str!("../../../deploy/prometheus/rules.yaml");
const RULES_TEST: &str = include_str!("../../../deploy/prometheus/rules-test.yaml");
const DASHBOARD: &str = include_str!("../../../deploy/grafana/onboardflow-gateway.json");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");
const CREATED: &str = include_str!("../../fixtures/created.json");

/// What the gateway's own metrics start with.
const PREFIXES: [&str; 5] = [
    "onboardflow_gateway_",
    "rpc_server_",
    "http_client_",
    "grpc_server_",
    "process_",
];

/// Every metric that a text asks for.
fn asked_for(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .collect()
}

/// Every series' name, and every histogram's, of a gateway to which everything has happened once.
fn exposed(metrics: &str) -> BTreeSet<&str> {
    let names = metrics
        .lines()
        .filter_map(|line| match line.strip_prefix("# TYPE ") {
            Some(family) => family.strip_suffix(" histogram"),
            None => line.split(['{', ' ', '#']).next(),
        });
    names.collect()
}

/// What happens too seldom to wait for.
fn seldom(metrics: &Metrics) {
    metrics.upstream.quota_left("default", 7);
    metrics.upstream.breaker(BreakerState::Open);
    metrics.upstream.retried("UPSTREAM_UNREACHABLE", "retried");
    metrics.upstream.unknown_field("data.plan");
    metrics.secrets.reload_failed(Secret::Certificate);
    metrics.secrets.expires(Secret::Certificate, 0);
}

#[tokio::test]
async fn every_metric_that_is_asked_for_is_exposed() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::start(Config::new(upstream.url())).await;
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.unwrap();
    seldom(&gateway.handles.telemetry.metrics);
    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
    let exposed = exposed(&metrics);
    for (name, text) in [
        ("rules", RULES),
        ("dashboard", DASHBOARD),
        ("operations", OPERATIONS),
    ] {
        let missing: Vec<_> = asked_for(text).difference(&exposed).copied().collect();
        assert!(
            missing.is_empty(),
            "{name}: {missing:?} are not in\n{metrics}"
        );
    }
    gateway.stop().await;
}

#[test]
fn every_alert_is_played_and_explained() {
    let alerts = RULES
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        assert!(
            RULES_TEST.contains(&format!("alertname: {alert}\n")),
            "{alert} is not tested"
        );
        assert!(
            OPERATIONS.contains(&format!("### {alert}\n")),
            "{alert} is not explained"
        );
        let runbook = format!("runbook: docs/operations.md#{}", alert.to_lowercase());
        assert!(RULES.contains(&runbook), "{alert} has no runbook");
    }
}
