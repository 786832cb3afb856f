//! A gateway that is killed in the middle of a call: whatever the moment, its ledger never lets a
//! create out twice. `scripts/crash-ledger` runs thousands of rounds, on PostgreSQL too.

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use onboardflow_gateway::{
    proto::{CreateCustomerRequest, customer_service_client::CustomerServiceClient},
    service::REPLAYED,
};
use prost_types::Timestamp;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    sync::Notify,
    time::{sleep, timeout},
};
use tonic::{Request, transport::Channel};

use crate::support::{CREATED, KEY, Upstream, create_request, response, told};

/// Rounds of a plain `cargo test`.
const ROUNDS: usize = 10;
/// Generous, as the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the gateway is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after the caller began: before the reservation, in it, or after it.
    After(Duration),
    /// OnboardFlow has the request, and hasn't answered.
    Sent,
    /// OnboardFlow has answered. The outcome may be written, or not.
    Answered,
}

impl Moment {
    fn of_round(round: usize) -> Self {
        match round % 4 {
            0 => Self::Sent,
            1 => Self::Answered,
            _ => Self::After(Duration::from_micros(fastrand::u64(..20_000))),
        }
    }
}

/// A gateway in a process of its own.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    async fn start(upstream: &Upstream, ledger: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onboardflow-gateway"))
            .args([
                "serve",
                "--listen=127.0.0.1:0",
                "--admin-listen=127.0.0.1:0",
            ])
            .arg(format!("--upstream-url={}", upstream.url()))
            .args(["--log-format=json", "--max-attempts=1"])
            .env_clear()
            .env("ONBOARDFLOW_TOKEN", KEY)
            .env("ONBOARDFLOW_LEDGER", ledger)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("it serves");
            if line.contains("\"serving\"") {
                let (_, rest) = line.split_once("\"address\":\"").unwrap();
                break rest.split('"').next().unwrap().parse().unwrap();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    async fn kill(mut self) {
        // SIGKILL: nothing is drained, nothing is written.
        self.child.kill().await.unwrap();
    }

    async fn client(&self) -> CustomerServiceClient<Channel> {
        let uri = format!("http://{}", self.address);
        let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
        CustomerServiceClient::new(channel)
    }
}

/// A create that can be told from every other by its date.
fn create(date: i64, id: &str) -> Request<CreateCustomerRequest> {
    let mut request = Request::new(CreateCustomerRequest {
        event_date: Some(Timestamp {
            seconds: date,
            nanos: 0,
        }),
        request_id: id.to_owned(),
        ..create_request()
    });
    request.set_timeout(Duration::from_secs(5));
    request
}

/// How many requests with this date have reached the API.
fn arrived(upstream: &Upstream, date: i64) -> usize {
    let needle = format!("\"event_date\":{date},");
    (upstream.received().iter())
        .filter(|request| String::from_utf8_lossy(&request.body).contains(&needle))
        .count()
}

async fn crash(ledger: &str, rounds: usize) {
    let (sent, answered) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell_sent, tell_answered) = (Arc::clone(&sent), Arc::clone(&answered));
    let upstream = Upstream::with(move |mut stream| {
        let (sent, answered) = (Arc::clone(&tell_sent), Arc::clone(&tell_answered));
        async move {
            sent.notify_one();
            sleep(Duration::from_millis(5)).await;
            let reply = response(200, &[("content-type", "application/json")], CREATED);
            let _ = stream.write_all(&reply).await;
            answered.notify_one();
        }
    })
    .await;
    let first = fastrand::i64(1_000_000..1_000_000_000);
    let mut gateway = Process::start(&upstream, ledger).await;
    for round in 0..rounds {
        let date = first + i64::try_from(round).unwrap();
        let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_be_bytes())
            .into_uuid()
            .to_string();
        let moment = Moment::of_round(round);
        let (mut client, request) = (gateway.client().await, create(date, &id));
        let call = tokio::spawn(async move { client.create_customer(request).await });
        match moment {
            Moment::After(delay) => sleep(delay).await,
            Moment::Sent => timeout(PATIENCE, sent.notified()).await.unwrap(),
            Moment::Answered => timeout(PATIENCE, answered.notified()).await.unwrap(),
        }
        gateway.kill().await;
        let told_before = call.await.unwrap().is_ok();

        gateway = Process::start(&upstream, ledger).await;
        let mut again = create(date, &id);
        // It need not learn what can't be learnt.
        again.set_timeout(Duration::from_secs(1));
        let again = gateway.client().await.create_customer(again).await;
        let at_the_api = arrived(&upstream, date);
        let what = format!("{moment:?}, round {round}: {again:?}");
        assert!(at_the_api <= 1, "{at_the_api} times: {what}");
        match again {
            Ok(response) => {
                assert_eq!(at_the_api, 1, "{what}");
                let replayed = response.metadata().contains_key(REPLAYED);
                assert!(replayed || !told_before, "{what}");
            }
            Err(status) => {
                let reason = told(&status).reason;
                let known = ["REQUEST_IN_PROGRESS", "WRITE_UNKNOWN", "DEADLINE_EXCEEDED"];
                assert!(known.contains(&&*reason), "{what}");
            }
        }
        // What a repeat sent is no sign of the next round.
        let _ = timeout(Duration::ZERO, sent.notified()).await;
        let _ = timeout(Duration::ZERO, answered.notified()).await;
    }
    gateway.kill().await;
}

fn setting(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    std::env::var(name).ok()
}

#[tokio::test]
async fn a_killed_gateway_sends_no_create_twice() {
    let rounds = setting("LEDGER_CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    crash(
        &format!("sqlite:{}/l.db", directory.path().display()),
        rounds,
    )
    .await;
    if let Some(postgres) = setting("LEDGER_TEST_POSTGRES") {
        crash(&postgres, rounds).await;
    }
}
