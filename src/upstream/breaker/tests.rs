use tokio::time::advance;

use super::*;
use crate::telemetry::Metrics;

fn breaker() -> Breaker {
    let config = BreakerConfig {
        failures: 3,
        ..BreakerConfig::default()
    };
    Breaker::new(Some(config), UpstreamMetrics::default())
}

fn find(breaker: &Breaker, site: &str, health: Health) {
    breaker.admit(site).unwrap().found(health);
}

fn is_open(breaker: &Breaker, site: &str) -> bool {
    breaker.admit(site).is_err()
}

fn stopped(breaker: &Breaker, site: &str) -> (Cause, u64) {
    let stopped = breaker.admit(site).unwrap_err();
    (stopped.cause, stopped.retry_after.as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_503_stops_its_sites_calls_for_its_time() {
    let breaker = breaker();
    find(&breaker, "a", Health::Offline(None));
    assert_eq!(stopped(&breaker, "a"), (Cause::Offline, 1));
    find(&breaker, "b", Health::Up);
    assert!(is_open(&breaker, "a"), "another site's success");

    advance(Duration::from_secs(1)).await;
    let two_minutes = Some(Duration::from_secs(120));
    find(&breaker, "a", Health::Offline(two_minutes));
    advance(Duration::from_secs(20)).await;
    assert_eq!(stopped(&breaker, "a"), (Cause::Offline, 100));

    advance(Duration::from_secs(100)).await;
    let probe = breaker.admit("a").unwrap();
    assert!(is_open(&breaker, "a"), "one probe at a time");
    probe.found(Health::Up);
    assert!(!is_open(&breaker, "a"));
}

#[tokio::test(start_paused = true)]
async fn a_503_is_taken_at_its_word_for_a_quarter_of_an_hour() {
    let breaker = breaker();
    find(&breaker, "a", Health::Offline(Some(Duration::MAX)));
    assert_eq!(stopped(&breaker, "a"), (Cause::Offline, 900));
    find(&breaker, "b", Health::Offline(None));
    find(&breaker, "c", Health::Offline(None));
    assert!(is_open(&breaker, "d"), "three in a row, over several sites");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_is_off_remembers_no_503() {
    let breaker = Breaker::new(None, UpstreamMetrics::default());
    find(
        &breaker,
        "a",
        Health::Offline(Some(Duration::from_secs(60))),
    );
    assert!(!is_open(&breaker, "a"));
}

#[tokio::test(start_paused = true)]
async fn opens_probes_and_closes() {
    let breaker = breaker();
    find(&breaker, "a", Health::Unreachable);
    find(&breaker, "a", Health::Unreachable);
    assert!(!is_open(&breaker, "a"));
    find(&breaker, "a", Health::Unreachable);
    assert_eq!(stopped(&breaker, "b"), (Cause::Failures, 1));

    advance(Duration::from_secs(1)).await;
    let probe = breaker.admit("b").unwrap();
    assert!(is_open(&breaker, "a"), "one probe at a time");
    probe.found(Health::Failing);
    assert_eq!(stopped(&breaker, "a"), (Cause::Failures, 2));

    advance(Duration::from_secs(2)).await;
    drop(breaker.admit("a").unwrap());
    find(&breaker, "a", Health::Up);
    assert!(!is_open(&breaker, "a"));
    assert!(!breaker.troubled.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn one_site_stops_itself_alone() {
    let breaker = breaker();
    for _ in 0..3 {
        find(&breaker, "a", Health::Failing);
    }
    assert!(is_open(&breaker, "a"));
    find(&breaker, "b", Health::Up);
    assert!(is_open(&breaker, "a"), "b's success is not a's");
    for site in ["b", "c", "b"] {
        assert!(!is_open(&breaker, "d"));
        find(&breaker, site, Health::Failing);
    }
    assert!(
        is_open(&breaker, "d"),
        "two sites' failures stop calls for all"
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_site_took_the_first_ones_place() {
    let breaker = breaker();
    for _ in 0..3 {
        find(&breaker, "a", Health::Failing);
    }
    find(&breaker, "b", Health::Failing);
    assert!(!is_open(&breaker, "c"), "b's first failure after a's three");
    for _ in 0..2 {
        find(&breaker, "b", Health::Failing);
    }
    assert!(is_open(&breaker, "a") && is_open(&breaker, "b"));
    assert!(!is_open(&breaker, "c"));

    advance(Duration::from_secs(1)).await;
    find(&breaker, "b", Health::Up);
    assert!(!is_open(&breaker, "b"));
    find(&breaker, "a", Health::Failing);
    assert!(is_open(&breaker, "a"), "b's success is not a's");
}

#[tokio::test(start_paused = true)]
async fn a_probe_without_a_verdict_left_the_metric_at_half_open() {
    let metrics = Metrics::new();
    let config = BreakerConfig {
        failures: 1,
        ..BreakerConfig::default()
    };
    let breaker = Breaker::new(Some(config), metrics.upstream.clone());
    let is = |state: &str| {
        let line = format!("circuit_breaker_state{{state=\"{state}\"}} 1");
        metrics.encode().unwrap().contains(&line)
    };
    assert!(is("closed"));
    find(&breaker, "a", Health::Failing);
    assert!(is("open"));
    advance(Duration::from_secs(1)).await;
    let probe = breaker.admit("a").unwrap();
    assert!(is("half_open"));
    drop(probe);
    assert!(is("open"));
    find(&breaker, "a", Health::Up);
    assert!(is("closed"));
}

#[tokio::test(start_paused = true)]
async fn sites_are_bounded() {
    let breaker = breaker();
    for site in 0..2 * MAX_SITES {
        for _ in 0..3 {
            find(&breaker, &site.to_string(), Health::Failing);
        }
    }
    assert_eq!(breaker.state().open.len(), MAX_SITES);
}

#[tokio::test(start_paused = true)]
async fn a_success_ends_a_run() {
    let breaker = breaker();
    for _ in 0..10 {
        find(&breaker, "a", Health::Failing);
        find(&breaker, "a", Health::Failing);
        find(&breaker, "b", Health::Up);
    }
    assert!(!is_open(&breaker, "a"));
}

#[tokio::test(start_paused = true)]
async fn a_site_that_nobody_calls_any_more_is_let_go() {
    let breaker = breaker();
    for _ in 0..3 {
        find(&breaker, "mistyped", Health::Failing);
    }
    find(&breaker, "b", Health::Up);
    assert_eq!(breaker.state().shown(), BreakerState::Open);
    advance(breaker.config.open_for + breaker.config.open_at_most).await;
    find(&breaker, "b", Health::Up);
    assert_eq!(breaker.state().shown(), BreakerState::Closed);
    assert!(!breaker.troubled.load(Ordering::Relaxed));
}
