//! `GET /`: how the gateway is, on one page that needs no script. It is made of the metrics, so that
//! the two can't disagree, and of the ledger's writes of unknown fate.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use tokio::time::timeout;

use super::Admin;
use crate::ledger::Entry;

/// Longest wait for the ledger.
const PATIENCE: Duration = Duration::from_secs(2);
/// Writes that are listed.
const LISTED: usize = 50;

/// No script, nothing from elsewhere, in no frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8885; --bar: #2f7d4f; --bad: #b3261e }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums }
.scroll { overflow-x: auto }
code { font-size: .85rem; user-select: all; overflow-wrap: anywhere }
td.bar { width: 45% } meter { width: 100% }
.bad { color: var(--bad); font-weight: 600 }
@media (prefers-color-scheme: dark) { :root { --bar: #6fcf97; --bad: #ff8a80 } }
";

/// The writes of unknown fate, as far as they can be known.
enum Unknown {
    NoLedger,
    Unreachable,
    Writes(Vec<Entry>),
}

/// The page.
pub(super) async fn page(State(admin): State<Admin>) -> Response {
    let Ok(metrics) = admin.metrics.encode() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let unknown = match &admin.ledger {
        None => Unknown::NoLedger,
        Some(ledger) => match timeout(PATIENCE, ledger.list(true)).await {
            Ok(Ok(writes)) => Unknown::Writes(writes),
            Ok(Err(_)) | Err(_) => Unknown::Unreachable,
        },
    };
    let series = Series::read(&metrics);
    let page = whole(admin.health.is_ready(), &series, &unknown);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, page.into_string()).into_response()
}

fn whole(ready: bool, series: &Series<'_>, unknown: &Unknown) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "onboardflow-gateway" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "onboardflow-gateway " (env!("CARGO_PKG_VERSION")) }
                p {
                    @if ready { "It takes calls." }
                    @else { span.bad { "It takes no calls: it starts or drains." } }
                }
                (calls(series))
                (upstream(series))
                (quota(series))
                (ledger(series, unknown))
                p { "All figures: " a href="/metrics" { "/metrics" } ". Settings: " a href="/config" { "/config" } "." }
            }
        }
    }
}

fn calls(series: &Series<'_>) -> Markup {
    let mut codes = series.sums("grpc_server_handled_total", "grpc_code");
    codes.retain(|_, calls| *calls > 0.0);
    let all: f64 = codes.values().sum();
    html! {
        h2 { "Calls since the start, by outcome" }
        @if codes.is_empty() { p { "None yet." } }
        @else {
            table {
                @for (code, calls) in &codes {
                    tr {
                        th scope="row" { (code) }
                        td.number { (calls) }
                        td.bar { meter min="0" max=(all) value=(calls) { (calls) " of " (all) } }
                    }
                }
            }
        }
    }
}

fn upstream(series: &Series<'_>) -> Markup {
    let states = series.sums("onboardflow_gateway_circuit_breaker_state", "state");
    let state = states.iter().find(|(_, is_in)| **is_in > 0.0);
    let in_flight = series.sum("onboardflow_gateway_upstream_attempts_in_flight");
    html! {
        h2 { "OnboardFlow" }
        p {
            @match state.map(|(state, _)| *state) {
                Some("closed") | None => "Calls go through: the circuit breaker is closed.",
                Some(state) => span.bad { "The circuit breaker is " (state) ": OnboardFlow has been failing." },
            }
            " Attempts under way: " (in_flight) "."
        }
    }
}

fn quota(series: &Series<'_>) -> Markup {
    let daily = series.sums("onboardflow_gateway_upstream_quota", "key");
    let left = series.sums("onboardflow_gateway_upstream_quota_left", "key");
    let callers = series.sums("onboardflow_gateway_caller_quota_left", "caller");
    html! {
        h2 { "The day's quota" }
        @if daily.is_empty() { p { "No " code { "--daily-quota" } " is set." } }
        @else {
            table {
                tr { th { "API key" } th { "used" } th { "left" } th { "" } }
                @for (key, daily) in &daily {
                    @let left = left.get(key).copied().unwrap_or(*daily);
                    @let used = daily - left;
                    tr {
                        td { (key) }
                        td.number { (used) }
                        td.number { (left) }
                        td.bar { meter min="0" max=(daily) high=(daily * 0.8) optimum="0" value=(used) { (used) " of " (daily) } }
                    }
                }
            }
            @if !callers.is_empty() {
                table {
                    tr { th { "Caller with a share" } th { "left" } }
                    @for (caller, left) in &callers { tr { td { (caller) } td.number { (left) } } }
                }
            }
        }
    }
}

fn ledger(series: &Series<'_>, unknown: &Unknown) -> Markup {
    html! {
        h2 { "Writes of unknown outcome" }
        @match unknown {
            Unknown::NoLedger => p { "This gateway keeps no ledger." },
            Unknown::Unreachable => p.bad { "The ledger can't be reached: calls with a request_id are refused." },
            Unknown::Writes(writes) if writes.is_empty() => p { "None." },
            Unknown::Writes(writes) => {
                p { "Look each one up in OnboardFlow's own pages. Then run one of its commands." }
                div.scroll {
                    table {
                        tr { th { "first attempt" } th { "request_id" } th { "site" } th { "call" } th { "commands" } }
                        @for write in writes.iter().take(LISTED) { (row(write)) }
                    }
                }
                @if writes.len() > LISTED { p { "And " (writes.len() - LISTED) " more: " code { "ledger list --unknown" } } }
            },
        }
        @for (state, entries) in series.sums("onboardflow_gateway_ledger_entries", "state") {
            span { (state) ": " (entries) ". " }
        }
    }
}

fn row(write: &Entry) -> Markup {
    let settle = |fate: &str| format!("onboardflow-gateway ledger settle {} --{fate}", write.id);
    html! {
        tr {
            td { (humantime::format_rfc3339_seconds(write.began())) }
            td { (write.id_begins) "…" }
            td { (write.site) }
            td { (write.method) }
            td { code { (settle("applied")) } br; code { (settle("not-applied")) } }
        }
    }
}

/// The metrics, as their text has them.
struct Series<'a>(Vec<(&'a str, &'a str, f64)>);

impl<'a> Series<'a> {
    fn read(text: &'a str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            Some((name, labels.trim_end_matches('}'), value.parse().ok()?))
        });
        Self(series.collect())
    }

    fn sum(&self, name: &str) -> f64 {
        let named = self.0.iter().filter(|(its, _, _)| *its == name);
        named.map(|(_, _, value)| value).sum()
    }

    /// The values of a metric, added up for each value of a label.
    fn sums(&self, name: &str, label: &str) -> BTreeMap<&'a str, f64> {
        let mut sums = BTreeMap::new();
        for (_, labels, value) in self.0.iter().filter(|(its, _, _)| *its == name) {
            let mut pairs = labels
                .split("\",")
                .filter_map(|pair| pair.split_once("=\""));
            if let Some((_, text)) = pairs.find(|(its, _)| *its == label) {
                *sums.entry(text.trim_end_matches('"')).or_default() += value;
            }
        }
        sums
    }
}
