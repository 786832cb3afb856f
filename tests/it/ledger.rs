//! Writes that name themselves: the table of docs/writes.md row by row, over two gateways that share a
//! ledger. On SQLite, and on the PostgreSQL that `LEDGER_TEST_POSTGRES` names.

mod clocks;
mod command;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use onboardflow_gateway::{
    config::{AuthScheme, Credentials},
    proto::{
        CreateCustomerRequest, CreateCustomerResponse, DeleteCustomerRequest, UpdateCustomerRequest,
    },
    service::REPLAYED,
};
use secrecy::SecretString;
use tokio::{io::AsyncWriteExt as _, sync::Notify, task::JoinSet};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;
use url::Url;

use crate::support::{
    CREATED, Config, EMAIL, Gateway, KEY, Process, Store, Upstream, create_request, fresh_id,
    insist, nobody, response, told, update_request,
};

const JSON: (&str, &str) = ("content-type", "application/json");
const UPDATED: &str = include_str!("../fixtures/updated.json");

/// A replica of the gateway: with a ledger of its own at this place.
async fn replica(store: &Store, upstream: &Url) -> Gateway {
    let ledger = Some(store.ledger());
    let config = Config::new(upstream.clone());
    Gateway::start(Config { ledger, ..config }).await
}

/// How an upstream treats one request.
enum Manner {
    Answer(u16, &'static str),
    /// It reads the request, and closes the connection.
    HangUp,
    /// It answers with success, but not before that.
    AnswerAfter(Arc<Notify>),
}

/// An upstream that treats each request in its turn, and all others with success.
async fn upstream(manners: impl IntoIterator<Item = Manner>) -> Upstream {
    let manners = Mutex::new(manners.into_iter().collect::<VecDeque<_>>());
    Upstream::with(move |mut stream| {
        let manner = manners.lock().unwrap().pop_front();
        async move {
            let (status, body) = match manner {
                Some(Manner::HangUp) => return,
                Some(Manner::Answer(status, body)) => (status, body),
                Some(Manner::AnswerAfter(moment)) => {
                    moment.notified().await;
                    (200, CREATED)
                }
                None => (200, CREATED),
            };
            let _ = stream.write_all(&response(status, &[JSON], body)).await;
        }
    })
    .await
}

fn create(id: &str) -> CreateCustomerRequest {
    CreateCustomerRequest {
        request_id: id.to_owned(),
        ..create_request()
    }
}

fn update(id: &str) -> UpdateCustomerRequest {
    UpdateCustomerRequest {
        request_id: id.to_owned(),
        ..update_request()
    }
}

fn is_replayed<T>(response: &Response<T>) -> bool {
    let replayed = response.metadata().get(REPLAYED);
    replayed.is_some_and(|value| value == "true")
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Status>) -> Status {
    result.unwrap_err()
}

fn assert_told(status: &Status, code: Code, reason: &str, write: &str) {
    let told = told(status);
    assert_eq!(
        (told.code, &*told.reason, &*told.write),
        (code, reason, write),
        "{status:?}"
    );
}

#[tokio::test]
async fn an_applied_write_is_answered_again_and_not_sent() {
    for store in Store::all() {
        let upstream = upstream([]).await;
        let [first, second] = [
            replica(&store, &upstream.url()).await,
            replica(&store, &upstream.url()).await,
        ];
        let id = fresh_id();
        let created = first.create(create(&id)).await.unwrap();
        assert!(!is_replayed(&created));
        for gateway in [&first, &second] {
            let again = gateway.create(create(&id)).await.unwrap();
            assert!(is_replayed(&again));
            assert_eq!(again.get_ref(), created.get_ref());
        }
        first.stop().await;
        second.stop().await;
        let restarted = replica(&store, &upstream.url()).await;
        assert!(is_replayed(&restarted.create(create(&id)).await.unwrap()));
        restarted.stop().await;

        let sent = upstream.received();
        assert_eq!(sent.len(), 1);
        assert!(!String::from_utf8_lossy(&sent[0].body).contains(&id));
        assert!(!sent[0].head.contains(&id));
    }
}

#[tokio::test]
async fn what_was_not_sent_or_rejected_is_executed() {
    for store in Store::all() {
        let upstream = upstream([Manner::Answer(400, "{}")]).await;
        let id = fresh_id();
        let alone = replica(&store, &nobody().await).await;
        assert_told(
            &refusal(alone.create(create(&id)).await),
            Code::Unavailable,
            "UPSTREAM_UNREACHABLE",
            "not_sent",
        );
        alone.stop().await;

        let gateway = replica(&store, &upstream.url()).await;
        assert_told(
            &refusal(gateway.create(create(&id)).await),
            Code::InvalidArgument,
            "UPSTREAM_REJECTED",
            "rejected",
        );
        // What was wrong with it may be put right.
        let corrected = CreateCustomerRequest {
            event_date: Some(prost_types::Timestamp::default()),
            ..create(&id)
        };
        let created = gateway.create(corrected).await.unwrap();
        assert!(!is_replayed(&created));
        gateway.stop().await;
        assert_eq!(upstream.received().len(), 2);
    }
}

#[tokio::test]
async fn a_repeat_of_a_write_under_way_waits_until_its_own_deadline() {
    for store in Store::all() {
        let moment = Arc::new(Notify::new());
        let upstream = upstream([Manner::AnswerAfter(Arc::clone(&moment))]).await;
        let [first, second] = [
            replica(&store, &upstream.url()).await,
            replica(&store, &upstream.url()).await,
        ];
        let id = fresh_id();
        let under_way = {
            let (client, request) = (first.client().await, create(&id));
            tokio::spawn(async move { client.clone().create_customer(request).await })
        };
        while upstream.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for gateway in [&first, &second] {
            let mut request = Request::new(create(&id));
            request
                .metadata_mut()
                .insert("grpc-timeout", "1S".parse().unwrap());
            let status = refusal(gateway.create(request).await);
            assert_told(&status, Code::Aborted, "REQUEST_IN_PROGRESS", "unknown");
            assert!(status.get_error_details().retry_info().is_some());
        }
        moment.notify_one();
        assert!(is_replayed(&second.create(create(&id)).await.unwrap()));
        under_way.await.unwrap().unwrap();
        first.stop().await;
        second.stop().await;
        assert_eq!(upstream.received().len(), 1);
    }
}

#[tokio::test]
async fn twenty_callers_with_one_id_are_one_request_and_one_answer() {
    for store in Store::all() {
        let moment = Arc::new(Notify::new());
        let upstream = upstream([Manner::AnswerAfter(Arc::clone(&moment))]).await;
        let replicas = [
            replica(&store, &upstream.url()).await,
            replica(&store, &upstream.url()).await,
        ];
        let id = fresh_id();
        let mut callers = JoinSet::new();
        for caller in 0..20 {
            let (mut client, request) = (replicas[caller % 2].client().await, create(&id));
            callers.spawn(async move { client.create_customer(request).await });
        }
        while upstream.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        moment.notify_one();
        let answers = callers.join_all().await;
        let answers: Vec<Response<CreateCustomerResponse>> =
            answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(
            answers.iter().filter(|answer| !is_replayed(answer)).count(),
            1
        );
        assert!(
            answers
                .iter()
                .all(|answer| answer.get_ref() == answers[0].get_ref())
        );
        for gateway in replicas {
            gateway.stop().await;
        }
        assert_eq!(upstream.received().len(), 1);
    }
}

#[tokio::test]
async fn a_create_of_unknown_fate_waits_for_a_person() {
    for store in Store::all() {
        let upstream = upstream([Manner::HangUp, Manner::HangUp]).await;
        let gateway = replica(&store, &upstream.url()).await;
        let ids = [fresh_id(), fresh_id()];
        for id in &ids {
            let lost = refusal(gateway.create(create(id)).await);
            assert_told(&lost, Code::Unknown, "UPSTREAM_CONNECTION_LOST", "unknown");
            let advice = "safe to send the call again with the same request_id";
            assert!(lost.message().contains(advice), "{lost:?}");
            let status = refusal(gateway.create(create(id)).await);
            assert_told(
                &status,
                Code::FailedPrecondition,
                "WRITE_UNKNOWN",
                "unknown",
            );
            let info = status.get_error_details().error_info().unwrap().clone();
            assert!(info.metadata.contains_key("first_attempt"), "{info:?}");
        }
        assert_eq!(upstream.received().len(), 2);

        let people = store.ledger();
        let unknown = people.list(true).await.unwrap();
        for (id, applied) in ids.iter().zip([true, false]) {
            let entry = unknown
                .iter()
                .find(|entry| id.starts_with(&entry.id_begins))
                .unwrap();
            assert_eq!(entry.method, "POST /api/v1/customer/");
            assert!(people.settle(entry, applied).await.unwrap());
        }
        let status = refusal(gateway.create(create(&ids[0])).await);
        assert_told(&status, Code::AlreadyExists, "WRITE_SETTLED", "applied");
        assert!(!is_replayed(
            &gateway.create(create(&ids[1])).await.unwrap()
        ));
        gateway.stop().await;
        assert_eq!(upstream.received().len(), 3);
    }
}

#[tokio::test]
async fn an_update_of_unknown_fate_is_executed() {
    for store in Store::all() {
        // As many as the gateway makes by itself.
        let lost = [Manner::HangUp, Manner::HangUp, Manner::HangUp];
        let upstream = upstream(lost.into_iter().chain([Manner::Answer(200, UPDATED)])).await;
        let gateway = replica(&store, &upstream.url()).await;
        let id = fresh_id();
        assert_told(
            &refusal(gateway.update(update(&id)).await),
            Code::Unavailable,
            "UPSTREAM_CONNECTION_LOST",
            "unknown",
        );
        let sent = upstream.received().len();
        assert!(!is_replayed(&gateway.update(update(&id)).await.unwrap()));
        assert!(is_replayed(&gateway.update(update(&id)).await.unwrap()));
        gateway.stop().await;
        assert_eq!(upstream.received().len(), sent + 1);
    }
}

#[tokio::test]
async fn a_delete_is_remembered_too() {
    let upstream = upstream([Manner::Answer(200, CREATED)]).await;
    let store = Store::sqlite();
    let gateway = replica(&store, &upstream.url()).await;
    let request = DeleteCustomerRequest {
        site_key: "f37F2PPh".to_owned(),
        customer_id: "cus_123XYZ".to_owned(),
        user_id: "user_123XYZ".to_owned(),
        request_id: fresh_id(),
    };
    for replayed in [false, true] {
        let mut client = gateway.client().await;
        let response = client.delete_customer(request.clone()).await.unwrap();
        assert_eq!(is_replayed(&response), replayed);
    }
    gateway.stop().await;
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn an_id_names_one_request() {
    for store in Store::all() {
        let upstream = upstream([]).await;
        let gateway = replica(&store, &upstream.url()).await;
        let id = fresh_id();
        gateway.create(create(&id)).await.unwrap();
        let other = CreateCustomerRequest {
            event_date: Some(prost_types::Timestamp::default()),
            ..create(&id)
        };
        for status in [
            refusal(gateway.create(other).await),
            refusal(gateway.update(update(&id)).await),
        ] {
            assert_told(
                &status,
                Code::InvalidArgument,
                "REQUEST_ID_REUSED",
                "not_sent",
            );
            let details = status.get_error_details();
            assert_eq!(
                details.bad_request().unwrap().field_violations[0].field,
                "request_id"
            );
        }
        // Another site has ids of its own.
        let elsewhere = CreateCustomerRequest {
            site_key: "f37F2PPi".to_owned(),
            ..create(&id)
        };
        assert!(!is_replayed(&gateway.create(elsewhere).await.unwrap()));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_write_that_was_taken_with_an_unreadable_reply_is_not_sent_again() {
    for store in Store::all() {
        let upstream = upstream([Manner::Answer(200, r#"{"success":true,"data":[]}"#)]).await;
        let gateway = replica(&store, &upstream.url()).await;
        let id = fresh_id();
        for _ in 0..2 {
            let status = refusal(gateway.create(create(&id)).await);
            assert_told(
                &status,
                Code::Internal,
                "UPSTREAM_REPLY_UNREADABLE",
                "applied",
            );
        }
        gateway.stop().await;
        assert_eq!(upstream.received().len(), 1);
    }
}

/// The gateway has nobody to answer, and remembers all the same.
#[tokio::test]
async fn a_caller_that_leaves_may_come_back_for_the_outcome() {
    for store in Store::all() {
        let moment = Arc::new(Notify::new());
        let upstream = upstream([Manner::AnswerAfter(Arc::clone(&moment))]).await;
        let gateway = replica(&store, &upstream.url()).await;
        let id = fresh_id();
        let (client, request) = (gateway.client().await, create(&id));
        let call = tokio::spawn(async move { client.clone().create_customer(request).await });
        while upstream.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        call.abort();
        let status = refusal(gateway.create(create(&id)).await);
        assert_told(
            &status,
            Code::FailedPrecondition,
            "WRITE_UNKNOWN",
            "unknown",
        );
        gateway.stop().await;
        assert_eq!(upstream.received().len(), 1);
    }
}

#[tokio::test]
async fn without_its_ledger_a_gateway_promises_nothing_and_serves_calls_without_an_id() {
    let upstream = upstream([]).await;
    let unreachable = Store::at("postgres://gateway@127.0.0.1:1/ledger");
    let gateway = replica(&unreachable, &upstream.url()).await;
    let status = refusal(gateway.create(create(&fresh_id())).await);
    assert_told(&status, Code::Unavailable, "LEDGER_UNAVAILABLE", "not_sent");
    assert!(status.get_error_details().retry_info().is_some());
    gateway.create(create_request()).await.unwrap();
    gateway.stop().await;

    let gateway = Gateway::before(upstream.url()).await;
    let status = refusal(gateway.create(create(&fresh_id())).await);
    assert_told(&status, Code::FailedPrecondition, "LEDGER_OFF", "not_sent");
    gateway.create(create_request()).await.unwrap();
    gateway.stop().await;
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn nothing_of_a_customer_and_no_key_is_in_the_files() {
    let store = Store::sqlite();
    let upstream = upstream([Manner::Answer(200, CREATED), Manner::HangUp]).await;
    let gateway = replica(&store, &upstream.url()).await;
    let (applied, unknown) = (fresh_id(), fresh_id());
    gateway.create(create(&applied)).await.unwrap();
    refusal(gateway.create(create(&unknown)).await);
    let directory = store.directory.as_ref().unwrap().path();
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(directory).unwrap() {
        bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    let holds = |text: &str| {
        bytes
            .windows(text.len())
            .any(|found| found == text.as_bytes())
    };
    assert!(holds(&applied[..8]), "the rows are in these files");
    for secret in [
        KEY,
        EMAIL,
        "Joe",
        "cus_123XYZ",
        "user_123XYZ",
        "f37F2PPh",
        "979924",
        &applied,
        &unknown,
    ] {
        assert!(!holds(secret), "{secret} can be read");
    }
    gateway.stop().await;
}

/// Over replicas and restarts.
#[tokio::test]
async fn a_quota_is_exact_over_replicas_and_restarts() {
    for store in Store::all() {
        let upstream = upstream([]).await;
        let key = fresh_id();
        let start = async || {
            let mut config = Config::new(upstream.url());
            config.upstream.daily_quota = Some(50);
            // An account that no other test has.
            config.upstream.credentials = Credentials::Gateway {
                token: SecretString::from(key.clone()),
                scheme: AuthScheme::Token,
            };
            config.ledger = Some(store.ledger());
            Gateway::start(config).await
        };
        let replicas = [start().await, start().await];
        let mut callers = JoinSet::new();
        for caller in 0..64 {
            let mut client = replicas[caller % 2].client().await;
            let id = fresh_id();
            callers.spawn(async move { insist(&mut client, || Request::new(create(&id))).await });
        }
        let answers = callers.join_all().await;
        assert_eq!(upstream.received().len(), 50);
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 50);
        for status in answers.into_iter().filter_map(Result::err) {
            assert_told(
                &status,
                Code::ResourceExhausted,
                "UPSTREAM_QUOTA_EXHAUSTED",
                "not_sent",
            );
        }
        for gateway in replicas {
            gateway.stop().await;
        }
        let restarted = start().await;
        for id in [String::new(), fresh_id()] {
            let status = refusal(restarted.create(create(&id)).await);
            assert_told(
                &status,
                Code::ResourceExhausted,
                "UPSTREAM_QUOTA_EXHAUSTED",
                "not_sent",
            );
        }
        restarted.stop().await;
        assert_eq!(upstream.received().len(), 50);
    }
}

/// 64 callers over two gateways, each with a process of its own.
#[tokio::test]
async fn a_quota_is_exact_over_gateways_that_are_killed() {
    const QUOTA: usize = 500;
    for store in Store::all() {
        let upstream = upstream([]).await;
        let key = fresh_id();
        let start = async || {
            let quota = format!("--daily-quota={QUOTA}");
            Process::start(&upstream.url(), &store.url, &key, &[&quota]).await
        };
        let use_up = async |processes: &[Process]| {
            let mut callers = JoinSet::new();
            for caller in 0..64 {
                let mut client = processes[caller % processes.len()].client().await;
                callers.spawn(async move {
                    let mut calls = 0..10;
                    let refused = loop {
                        let id = fresh_id();
                        match insist(&mut client, || Request::new(create(&id))).await {
                            Ok(_) if calls.next().is_none() => return,
                            Ok(_) => {}
                            Err(status) => break status,
                        }
                    };
                    assert_told(
                        &refused,
                        Code::ResourceExhausted,
                        "UPSTREAM_QUOTA_EXHAUSTED",
                        "not_sent",
                    );
                });
            }
            callers.join_all().await;
        };
        let replicas = [start().await, start().await];
        use_up(&replicas).await;
        assert_eq!(upstream.received().len(), QUOTA);
        for process in replicas {
            process.kill().await;
        }
        let restarted = start().await;
        use_up(std::slice::from_ref(&restarted)).await;
        assert_eq!(upstream.received().len(), QUOTA);
        restarted.kill().await;
    }
}

#[tokio::test]
async fn a_call_that_never_left_is_given_back_to_the_ledger() {
    let store = Store::sqlite();
    let upstream = upstream([]).await;
    let start = async |url: &Url| {
        let mut config = Config::new(url.clone());
        config.upstream.daily_quota = Some(1);
        config.ledger = Some(store.ledger());
        Gateway::start(config).await
    };
    let alone = start(&nobody().await).await;
    for id in [String::new(), fresh_id()] {
        assert_told(
            &refusal(alone.create(create(&id)).await),
            Code::Unavailable,
            "UPSTREAM_UNREACHABLE",
            "not_sent",
        );
        let ledger = store.ledger();
        let are_left = async || {
            let calls = ledger.known().await.unwrap().calls;
            calls.iter().any(|(_, _, calls)| *calls > 0)
        };
        while are_left().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    alone.stop().await;
    let gateway = start(&upstream.url()).await;
    gateway.create(create_request()).await.unwrap();
    let status = refusal(gateway.create(create_request()).await);
    assert_told(
        &status,
        Code::ResourceExhausted,
        "UPSTREAM_QUOTA_EXHAUSTED",
        "not_sent",
    );
    gateway.stop().await;
}

#[tokio::test]
async fn without_its_ledger_a_gateway_counts_alone() {
    let upstream = upstream([]).await;
    let mut config = Config::new(upstream.url());
    config.upstream.daily_quota = Some(2);
    let unreachable = Store::at("postgres://gateway@127.0.0.1:1/ledger");
    config.ledger = Some(unreachable.ledger());
    let gateway = Gateway::start(config).await;
    for _ in 0..2 {
        gateway.create(create_request()).await.unwrap();
    }
    let status = refusal(gateway.create(create_request()).await);
    assert_told(
        &status,
        Code::ResourceExhausted,
        "UPSTREAM_QUOTA_EXHAUSTED",
        "not_sent",
    );
    gateway.stop().await;
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_spent_day_is_known_to_all_replicas() {
    let store = Store::sqlite();
    let spent = response(429, &[JSON, ("retry-after", "3600")], "{}");
    let refusing = Upstream::saying(spent).await;
    let taking = upstream([]).await;
    let [first, second] = [
        replica(&store, &refusing.url()).await,
        replica(&store, &taking.url()).await,
    ];
    refusal(first.create(create_request()).await);
    let told_of = async || second.create(create_request()).await;
    let until = tokio::time::Instant::now() + Duration::from_secs(60);
    let status = loop {
        match told_of().await {
            Err(status) => break status,
            Ok(_) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(_) => panic!("the second replica never learnt of it"),
        }
    };
    assert_told(
        &status,
        Code::ResourceExhausted,
        "UPSTREAM_QUOTA_EXHAUSTED",
        "not_sent",
    );
    first.stop().await;
    second.stop().await;
}

/// A create without a `request_id`, which a sidecar sends again.
fn sidecars(
    attempt: &'static str,
    request: CreateCustomerRequest,
) -> Request<CreateCustomerRequest> {
    let mut request = Request::new(request);
    let metadata = request.metadata_mut();
    metadata.insert("x-request-id", "7a1f".parse().unwrap());
    metadata.insert("x-envoy-attempt-count", attempt.parse().unwrap());
    request
}

#[tokio::test]
async fn a_sidecars_repeat_of_a_create_is_not_sent_again() {
    let upstream = upstream([Manner::HangUp, Manner::Answer(400, "{}")]).await;
    let gateway = Gateway::before(upstream.url()).await;
    let lost = refusal(gateway.create(sidecars("1", create_request())).await);
    assert_told(&lost, Code::Unknown, "UPSTREAM_CONNECTION_LOST", "unknown");
    let status = refusal(gateway.create(sidecars("2", create_request())).await);
    assert_told(
        &status,
        Code::FailedPrecondition,
        "WRITE_UNKNOWN",
        "unknown",
    );
    assert_eq!(upstream.received().len(), 1);

    // Another request with the same x-request-id is another write, and what was refused may be sent.
    let other = || CreateCustomerRequest {
        event_date: Some(prost_types::Timestamp::default()),
        ..create_request()
    };
    refusal(gateway.create(sidecars("2", other())).await);
    gateway.create(sidecars("2", other())).await.unwrap();
    let again = gateway.create(sidecars("3", other())).await.unwrap();
    assert!(is_replayed(&again));
    assert_eq!(upstream.received().len(), 3);
    // A caller that doesn't say that it repeats means another write.
    gateway.create(sidecars("1", other())).await.unwrap();
    assert_eq!(upstream.received().len(), 4);
    gateway.stop().await;
}

/// Another replica learns of the first attempt from the ledger.
#[tokio::test]
async fn a_sidecars_repeat_is_known_to_all_replicas() {
    for store in Store::all() {
        let upstream = upstream([Manner::HangUp]).await;
        let replicas = [
            replica(&store, &upstream.url()).await,
            replica(&store, &upstream.url()).await,
        ];
        let attempt = async |replica: usize, id: &str, attempt| {
            let mut request = sidecars(attempt, create_request());
            let metadata = request.metadata_mut();
            metadata.insert("x-request-id", id.parse().unwrap());
            replicas[replica].create(request).await
        };
        let [lost, taken] = [fresh_id(), fresh_id()];
        let first = refusal(attempt(0, &lost, "1").await);
        assert_told(&first, Code::Unknown, "UPSTREAM_CONNECTION_LOST", "unknown");
        for replica in [1, 0] {
            assert_told(
                &refusal(attempt(replica, &lost, "2").await),
                Code::FailedPrecondition,
                "WRITE_UNKNOWN",
                "unknown",
            );
        }
        assert!(!is_replayed(&attempt(0, &taken, "1").await.unwrap()));
        for replica in [1, 0] {
            assert!(is_replayed(&attempt(replica, &taken, "2").await.unwrap()));
        }
        assert_eq!(upstream.received().len(), 2);
        // Who doesn't say that it repeats means another write.
        assert!(!is_replayed(&attempt(1, &taken, "1").await.unwrap()));
        assert!(is_replayed(&attempt(0, &taken, "2").await.unwrap()));
        // The ledger is asked about UUIDs alone.
        attempt(0, "7a1f", "1").await.unwrap();
        assert!(!is_replayed(&attempt(1, "7a1f", "2").await.unwrap()));
        assert!(is_replayed(&attempt(0, "7a1f", "2").await.unwrap()));
        assert_eq!(upstream.received().len(), 5);
        for gateway in replicas {
            gateway.stop().await;
        }
    }
}
