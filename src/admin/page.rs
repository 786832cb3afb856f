//! `GET /`: how the gateway is, on one page that needs no script. It is made of the metrics, so that
//! the two can't disagree, and of the ledger's writes of unknown fate.

use std::time::{Duration, UNIX_EPOCH};

use axum::{
    Extension,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use tokio::time::timeout;

use super::{
    Admin,
    minutes::{MOST, Minutes, Outcomes},
    series::Series,
};
use crate::ledger::Entry;

/// Longest wait for the ledger.
const PATIENCE: Duration = Duration::from_secs(2);
const LISTED: usize = 50;

/// No script, nothing from elsewhere, in no frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

const STYLE: &str = "
:root { color-scheme: light dark; --line: #8885; --ok: #2f7d4f; --refused: #8a6500; --bad: #b3261e }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.3rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
.number { text-align: right; font-variant-numeric: tabular-nums }
ul { list-style: none; padding: 0 } li { padding: .3rem 0; border-bottom: 1px solid var(--line) }
code { font-size: .85rem; user-select: all; overflow-wrap: anywhere }
td.bar { width: 45% } meter { width: 100% }
.share::-webkit-meter-optimum-value { background: #888 } .share::-moz-meter-bar { background: #888 }
.bad { color: var(--bad); font-weight: 600 }
svg { width: 100%; height: 6rem; border-bottom: 1px solid var(--line) }
.ok-bar { fill: var(--ok) } .refused-bar { fill: var(--refused) } .failed-bar { fill: var(--bad) }
.ok { color: var(--ok) } .refused { color: var(--refused) }
@media (prefers-color-scheme: dark) { :root { --ok: #6fcf97; --refused: #f2c94c; --bad: #ff8a80 } }
";

/// The writes of unknown fate, as far as they can be known.
enum Unknown {
    NoLedger,
    Unreachable,
    Writes(Vec<Entry>),
}

pub(super) async fn page(
    State(admin): State<Admin>,
    Extension(minutes): Extension<Minutes>,
) -> Response {
    let Ok(metrics) = admin.figures().await else {
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
    let minutes = minutes.until(Outcomes::since_the_start(&series));
    let page = whole(admin.health.is_ready(), &minutes, &series, &unknown);
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, page.into_string()).into_response()
}

fn whole(ready: bool, minutes: &[Outcomes], series: &Series<'_>, unknown: &Unknown) -> Markup {
    let up_since = series.sum("process_start_time_seconds");
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
                    " Up since " (time(up_since)) "."
                }
                (plot(minutes))
                (calls(series))
                (upstream(series))
                (quota(series))
                (ledger(unknown))
                p { "All figures: " a href="/metrics" { "/metrics" } ". Settings: " a href="/config" { "/config" } "." }
            }
        }
    }
}

/// A time in seconds since 1970, for people.
fn time(seconds: f64) -> String {
    let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// A bar a minute, from what went well up to what failed.
fn plot(minutes: &[Outcomes]) -> Markup {
    let most = minutes.iter().map(|minute| minute.all()).max();
    let most = most.unwrap_or_default();
    let first = MOST - minutes.len().min(MOST);
    html! {
        h2 { "Calls of the last " (MOST) " minutes" }
        svg viewBox={ "0 0 " (MOST * 10) " 100" } preserveAspectRatio="none" role="img" aria-label="calls a minute, by outcome" {
            @for (at, minute) in minutes.iter().enumerate() {
                (bar((first + at) * 10, *minute, most))
            }
        }
        p {
            span.ok { "■ OK" } ", " span.refused { "■ refused" } ", " span.bad { "■ failed" }
            ". "
            @if most == 0 { "There were none." }
            @else { "The highest bar stands for " (most) " calls. The last minute isn't over." }
        }
    }
}

fn bar(x: usize, minute: Outcomes, most: u64) -> Markup {
    let Outcomes {
        ok,
        refused,
        failed,
    } = minute;
    let height = |calls: u64| calls * 100 / most;
    let parts = [
        ("ok-bar", 0, ok),
        ("refused-bar", ok, refused),
        ("failed-bar", ok + refused, failed),
    ];
    html! {
        @for (class, below, calls) in parts {
            @if calls > 0 {
                @let top = height(below + calls).max(1);
                rect class=(class) x=(x) y=(100 - top) width="9" height=((top - height(below)).max(1)) {
                    title { (ok) " OK, " (refused) " refused, " (failed) " failed" }
                }
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
                        td.bar { meter.share min="0" max=(all) value=(calls) { (calls) " of " (all) } }
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
    let connections = series.sums("onboardflow_gateway_upstream_connections", "state");
    html! {
        h2 { "OnboardFlow" }
        p {
            @match state.map(|(state, _)| *state) {
                Some("closed") | None => "Calls go through: the circuit breaker is closed.",
                Some(state) => span.bad { "The circuit breaker is " (state) ": OnboardFlow has been failing." },
            }
            " Attempts under way: " (in_flight) ". Connections: "
            @for (at, (state, number)) in connections.iter().enumerate() {
                @if at > 0 { ", " }
                (number) " " (state.replace('_', " "))
            }
            "."
        }
    }
}

fn quota(series: &Series<'_>) -> Markup {
    let daily = series.sums("onboardflow_gateway_upstream_quota", "key");
    let left = series.sums("onboardflow_gateway_upstream_quota_left", "key");
    let shares = series.sums("onboardflow_gateway_caller_quota", "caller");
    let left_of_shares = series.sums("onboardflow_gateway_caller_quota_left", "caller");
    html! {
        h2 { "The day's quota" }
        @if daily.is_empty() { p { "No " code { "--daily-quota" } " is set." } }
        @else {
            table {
                tr { th { "API key" } th.number { "used" } th.number { "left" } th { "" } }
                @for (key, daily) in &daily {
                    (used(key, *daily, left.get(key).copied()))
                }
            }
            @if !shares.is_empty() {
                table {
                    tr { th { "caller with a share" } th.number { "used" } th.number { "left" } th { "" } }
                    @for (caller, daily) in &shares {
                        (used(caller, *daily, left_of_shares.get(caller).copied()))
                    }
                }
            }
        }
    }
}

/// A row with what is used and left of so many calls a day.
fn used(name: &str, daily: f64, left: Option<f64>) -> Markup {
    let left = left.unwrap_or(daily);
    let used = daily - left;
    html! {
        tr {
            td { (name) }
            td.number { (used) }
            td.number { (left) }
            td.bar { meter min="0" max=(daily) high=(daily * 0.8) optimum="0" value=(used) { (used) " of " (daily) } }
        }
    }
}

fn ledger(unknown: &Unknown) -> Markup {
    html! {
        h2 { "Writes of unknown outcome" }
        @match unknown {
            Unknown::NoLedger => p { "This gateway keeps no ledger." },
            Unknown::Unreachable => p.bad { "The ledger can't be reached: calls with a request_id are refused." },
            Unknown::Writes(writes) if writes.is_empty() => p { "None." },
            Unknown::Writes(writes) => {
                p { "Look each one up in OnboardFlow's own pages. Then run one of its commands." }
                ul { @for write in writes.iter().take(LISTED) { (item(write)) } }
                @if writes.len() > LISTED { p { "And " (writes.len() - LISTED) " more: " code { "ledger list --unknown" } } }
            },
        }
    }
}

fn item(write: &Entry) -> Markup {
    let settle = |fate: &str| format!("onboardflow-gateway ledger settle {} --{fate}", write.id);
    html! {
        li {
            (write.method) " for " (write.site) ", first sent at "
            (humantime::format_rfc3339_seconds(write.began)) ", request_id " (write.id_begins) "…"
            br; code { (settle("applied")) }
            br; code { (settle("not-applied")) }
        }
    }
}
