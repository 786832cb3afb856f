//! The dashboard, the alerts and the documentation speak of the metrics that there are.

use std::collections::{BTreeMap, BTreeSet};

use onboardflow_gateway::{
    callers::Rules,
    telemetry::{BreakerState, Metrics, Secret, logs},
};

use crate::support::{Config, Gateway, Upstream, create_request};

const RULES: &str = include_str!("../../../deploy/prometheus/rules.yaml");
const RULES_TEST: &str = include_str!("../../../deploy/prometheus/rules-test.yaml");
const DASHBOARD: &str = include_str!("../../../deploy/grafana/onboardflow-gateway.json");
const OPERATIONS: &str = include_str!("../../../docs/operations.md");

/// What the gateway's own metrics start with.
const PREFIXES: [&str; 5] = [
    "onboardflow_gateway_",
    "rpc_server_",
    "http_client_",
    "grpc_server_",
    "process_",
];

/// Metrics by name, each with its labels.
type Labelled<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

/// What happens too seldom to wait for.
fn seldom(metrics: &Metrics) {
    metrics.upstream.breaker(BreakerState::Open);
    metrics.upstream.retried("unreachable", "retried");
    metrics.upstream.unknown_field("data.plan");
    metrics.secrets.reload_failed(Secret::Certificate);
    metrics.secrets.expires(Secret::Certificate, 0);
    let rules = b"[[caller]]\nname = \"web.svc\"\ndaily_share = 1";
    let rules = Rules::parse(rules, &[], Some(7)).unwrap();
    metrics.callers.hold_to(&rules.into());
    let ledger = metrics.ledger();
    ledger.entries("unknown", 1);
    ledger.answered("replayed");
    let (_lines, dropped, _writing) = logs::lines_to(std::io::sink());
    metrics.collect(dropped);
}

/// What a gateway shows to which everything has happened once.
async fn shown() -> String {
    let upstream = Upstream::answering(500, "{}").await;
    let mut config = Config::new(upstream.url());
    config.upstream.daily_quota = Some(7);
    let gateway = Gateway::start(config).await;
    gateway.create(create_request()).await.unwrap_err();
    let metrics = &gateway.handles.telemetry.metrics;
    seldom(metrics);
    let shown = metrics.encode().unwrap();
    gateway.stop().await;
    shown
}

/// Every metric that a gateway shows, histograms as one.
fn exposed(metrics: &str) -> Labelled<'_> {
    let histograms: BTreeSet<_> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"))
        .collect();
    let mut exposed = Labelled::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, _value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let histogram = (name.rsplit_once('_'))
            .map(|(base, _suffix)| base)
            .filter(|base| histograms.contains(base));
        // No label's value has a quote or a comma in it.
        let labels = labels.trim_end_matches('}').split(',');
        let names = labels.filter_map(|label| Some(label.split_once('=')?.0));
        let known = exposed.entry(histogram.unwrap_or(name)).or_default();
        known.extend(names.filter(|&label| label != "le"));
    }
    exposed
}

/// The table of metrics in docs/operations.md: names in its first column, their labels in the second.
fn documented() -> Labelled<'static> {
    let (_, table) = OPERATIONS.split_once("| metric | labels |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let quoted = |cell: &'static str| cell.split('`').skip(1).step_by(2);
    let mut documented = Labelled::new();
    for row in rows {
        // Only the last cell, which isn't read, has a `|` in its text.
        let cells: Vec<_> = row.split('|').collect();
        for name in quoted(cells[1]) {
            let labels = quoted(cells[2]).collect();
            assert!(documented.insert(name, labels).is_none(), "{name} twice");
        }
    }
    documented
}

/// Every metric that a text asks for.
fn asked_for(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        // Of a histogram.
        .map(|name| {
            let parts = ["_bucket", "_count", "_sum"];
            let base = parts.iter().find_map(|part| name.strip_suffix(part));
            base.unwrap_or(name)
        })
        .collect()
}

#[tokio::test]
async fn the_documentation_lists_what_is_shown_with_its_labels() {
    let metrics = shown().await;
    let (exposed, documented) = (exposed(&metrics), documented());
    for (name, labels) in &exposed {
        assert_eq!(documented.get(name), Some(labels), "{name}");
    }
    for name in documented.keys() {
        assert!(exposed.contains_key(name), "{name} is not shown");
    }
}

#[tokio::test]
async fn every_metric_that_is_asked_for_is_shown() {
    let metrics = shown().await;
    let exposed: BTreeSet<_> = exposed(&metrics).into_keys().collect();
    for (name, text) in [
        ("rules", RULES),
        ("dashboard", DASHBOARD),
        ("text", OPERATIONS),
    ] {
        let missing: Vec<_> = asked_for(text).difference(&exposed).copied().collect();
        assert_eq!(missing, [""; 0], "{name}");
    }
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
