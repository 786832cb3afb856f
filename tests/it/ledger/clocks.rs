//! Two gateways whose clocks are an hour apart, and on either side of a midnight. The ledger's time is its
//! store's, so that neither notices.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use onboardflow_gateway::proto::CreateCustomerResponse;
use tokio::sync::Notify;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::{Manner, assert_told, create, is_replayed, refusal, upstream};
use crate::support::{Process, Store, Upstream, eventually, fresh_id, insist};

const HALF_AN_HOUR: u64 = 1800;
const DAY: u64 = 24 * 3600;
const QUOTA: usize = 20;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Where libfaketime is.
fn libfaketime() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    std::env::var("LEDGER_TEST_FAKETIME").ok()
}

#[expect(clippy::disallowed_methods, reason = "it is about clocks")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Seconds until the midnight after the next one.
fn until_midnight() -> u64 {
    2 * DAY - now().duration_since(UNIX_EPOCH).unwrap().as_secs() % DAY
}

async fn call(
    gateway: &Process,
    id: &str,
    deadline: Duration,
) -> Result<Response<CreateCustomerResponse>, Status> {
    let mut request = Request::new(create(id));
    request.set_timeout(deadline);
    gateway.client().await.create_customer(request).await
}

struct Pair {
    upstream: Upstream,
    moment: Arc<Notify>,
    store: Store,
    key: String,
    library: String,
}

impl Pair {
    /// A gateway whose clock is so many seconds ahead.
    async fn start(&self, ahead: u64) -> Process {
        let upstream = format!("--upstream-url={}", self.upstream.url());
        let (ahead, quota) = (format!("+{ahead}"), format!("--daily-quota={QUOTA}"));
        let args = ["serve", &upstream, &quota, "--ledger-retention=30m"];
        let variables = [
            ("ONBOARDFLOW_TOKEN", &*self.key),
            ("ONBOARDFLOW_LEDGER", &*self.store.url),
            ("LD_PRELOAD", &*self.library),
            ("FAKETIME", &*ahead),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        Process::run(&args, &variables).await
    }

    /// A write that is under way at one is under way for the other, and not over yet.
    async fn one_is_under_way(&self, one: &Process, other: &Process) {
        let (id, sent) = (fresh_id(), self.upstream.received().len());
        let repeat = async {
            let arrived = || (self.upstream.received().len() > sent).then_some(());
            eventually("the create", arrived).await;
            let status = refusal(call(other, &id, SECOND).await);
            assert_told(&status, Code::Aborted, "REQUEST_IN_PROGRESS", "unknown");
            self.moment.notify_one();
        };
        let (first, ()) = tokio::join!(call(one, &id, MINUTE), repeat);
        assert!(!is_replayed(&first.unwrap()));
        assert!(is_replayed(&taken(other, &id).await));
    }
}

/// When it logged a call for the first time, by its own clock.
async fn first_call(gateway: &mut Process) -> SystemTime {
    let line = gateway.line_with("CreateCustomer").await;
    humantime::parse_rfc3339(line["timestamp"].as_str().unwrap()).unwrap()
}

/// When the attempt began is told by the store's clock.
async fn one_is_lost(one: &Process, other: &Process) {
    let id = fresh_id();
    let lost = refusal(call(one, &id, MINUTE).await);
    assert_told(&lost, Code::Unknown, "UPSTREAM_CONNECTION_LOST", "unknown");
    let status = refusal(call(other, &id, MINUTE).await);
    let waits = Code::FailedPrecondition;
    assert_told(&status, waits, "WRITE_UNKNOWN", "unknown");
    let details = status.get_error_details();
    let first = &details.error_info().unwrap().metadata["first_attempt"];
    let age = now().duration_since(humantime::parse_rfc3339(first).unwrap());
    assert!(age.unwrap() < 5 * MINUTE, "{first}");
}

/// Both count the store's day.
async fn the_day_is_spent(gateways: [&Process; 2]) -> usize {
    let mut refused = 0;
    for gateway in gateways.into_iter().cycle().take(2 * QUOTA) {
        let mut client = gateway.client().await;
        let id = fresh_id();
        if let Err(status) = insist(&mut client, || Request::new(create(&id))).await {
            let spent = "UPSTREAM_QUOTA_EXHAUSTED";
            assert_told(&status, Code::ResourceExhausted, spent, "not_sent");
            refused += 1;
        }
    }
    refused
}

async fn taken(gateway: &Process, id: &str) -> Response<CreateCustomerResponse> {
    let mut client = gateway.client().await;
    insist(&mut client, || Request::new(create(id)))
        .await
        .unwrap()
}

/// Only on the PostgreSQL that `LEDGER_TEST_POSTGRES` names: gateways that share a file share its clock.
#[tokio::test]
async fn gateways_whose_clocks_are_an_hour_apart_agree() {
    let (Some(store), Some(library)) = (Store::postgres(), libfaketime()) else {
        println!("NOT TESTED: there is no LEDGER_TEST_POSTGRES, or no LEDGER_TEST_FAKETIME");
        return;
    };
    let moment = Arc::new(Notify::new());
    let held = || Manner::AnswerAfter(Arc::clone(&moment));
    let pair = Pair {
        upstream: upstream([held(), held(), Manner::HangUp]).await,
        moment: Arc::clone(&moment),
        store,
        key: fresh_id(),
        library,
    };
    let midnight = until_midnight();
    let mut today = pair.start(midnight - HALF_AN_HOUR).await;
    let mut tomorrow = pair.start(midnight + HALF_AN_HOUR).await;
    pair.one_is_under_way(&today, &tomorrow).await;
    pair.one_is_under_way(&tomorrow, &today).await;
    let apart = first_call(&mut tomorrow)
        .await
        .duration_since(first_call(&mut today).await);
    assert!(apart.unwrap() > 50 * MINUTE);
    one_is_lost(&today, &tomorrow).await;

    // One that starts, far ahead, forgets nothing that is young by the store's clock.
    let id = fresh_id();
    taken(&today, &id).await;
    tomorrow.kill().await;
    let tomorrow = pair.start(midnight + HALF_AN_HOUR).await;
    assert!(is_replayed(&taken(&tomorrow, &id).await));

    let refused = the_day_is_spent([&today, &tomorrow]).await;
    let arrived = pair.upstream.received().len();
    assert_eq!((arrived, refused), (QUOTA, QUOTA + 4));
    for gateway in [today, tomorrow] {
        gateway.kill().await;
    }
}
