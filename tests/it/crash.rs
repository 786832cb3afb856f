//! A gateway that is killed in the middle of many calls: whatever the moment, its ledger never lets a
//! create out twice. `scripts/crash-ledger` runs a thousand rounds on each store.

mod callers;
mod cut;
mod full;
mod storm;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt as _, future::join_all, stream};
use onboardflow_gateway::{
    proto::{
        CreateCustomerRequest, CreateCustomerResponse,
        customer_service_client::CustomerServiceClient,
    },
    service::REPLAYED,
};
use prost_types::Timestamp;
use sqlx::{AnyConnection, Connection as _, raw_sql};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::{Request, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;
use url::Url;

use crate::support::{CREATED, KEY, Process, Store, Upstream, create_request, fresh_id, response};

/// Rounds of a plain `cargo test`.
const ROUNDS: usize = 12;
/// Calls that are under way when the gateway is killed.
const CALLS: usize = 16;
/// Generous, as the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// A call's deadline, and what its row stays pending for after that.
const DEADLINE: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(15);
/// Calls that are repeated once more at the end.
const REPEATED: usize = 4000;

/// Where the calls are when the gateway is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Before their reservations: the store is locked.
    Reserving,
    /// They are reserved, and no byte has left: OnboardFlow says nothing of TLS.
    Reserved,
    /// OnboardFlow has them, and hasn't answered.
    Sent,
    /// OnboardFlow has answered, and no outcome is written: the store is locked.
    Answered,
    /// Their callers have the answers.
    Told,
    /// Wherever they are after a while.
    Anywhere,
}

const STEPS: [Step; 6] = [
    Step::Reserving,
    Step::Reserved,
    Step::Sent,
    Step::Answered,
    Step::Told,
    Step::Anywhere,
];

/// OnboardFlow, which counts what it was sent, and answers while it is open.
struct Api {
    upstream: Upstream,
    arrived: Arc<Mutex<HashMap<i64, usize>>>,
    counts: watch::Receiver<(usize, usize)>,
    open: watch::Sender<bool>,
}

impl Api {
    async fn start() -> Self {
        let arrived = Arc::new(Mutex::new(HashMap::new()));
        let (open, is_open) = watch::channel(true);
        let (count, counts) = watch::channel((0, 0));
        let (of_date, count) = (Arc::clone(&arrived), Arc::new(count));
        let upstream = Upstream::hearing(move |mut stream, request| {
            let date = callers::date_in(&request.body).unwrap();
            *of_date.lock().unwrap().entry(date).or_default() += 1;
            count.send_modify(|(arrived, _)| *arrived += 1);
            let (mut is_open, count) = (is_open.clone(), Arc::clone(&count));
            async move {
                if is_open.wait_for(|open| *open).await.is_ok() {
                    let reply = response(200, &[("content-type", "application/json")], CREATED);
                    let _ = stream.write_all(&reply).await;
                    count.send_modify(|(_, answered)| *answered += 1);
                }
            }
        })
        .await;
        Self {
            upstream,
            arrived,
            counts,
            open,
        }
    }

    /// How many requests with this date have arrived.
    fn arrived(&self, date: i64) -> usize {
        let arrived = self.arrived.lock().unwrap();
        arrived.get(&date).copied().unwrap_or_default()
    }

    /// Waits for the counts to be so, as long as calls have time. False if they never were: on a busy
    /// machine a store may be too slow for them.
    async fn until(&self, so: impl FnMut(&(usize, usize)) -> bool) -> bool {
        let mut counts = self.counts.clone();
        let counts = timeout(DEADLINE, counts.wait_for(so)).await;
        counts.is_ok()
    }
}

/// A create that can be told from every other by its date.
#[derive(Clone, Debug)]
struct Create {
    date: i64,
    id: String,
}

impl Create {
    fn request(&self, deadline: Duration) -> Request<CreateCustomerRequest> {
        let mut request = Request::new(CreateCustomerRequest {
            event_date: Some(Timestamp {
                seconds: self.date,
                nanos: 0,
            }),
            request_id: self.id.clone(),
            ..create_request()
        });
        request.set_timeout(deadline);
        request
    }
}

/// Holds the store, so that nobody else writes.
struct Lock(AnyConnection);

impl Lock {
    async fn take(ledger: &str) -> Self {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(ledger).await.unwrap();
        let lock = if ledger.starts_with("sqlite") {
            "BEGIN IMMEDIATE"
        } else {
            "BEGIN; LOCK TABLE writes IN EXCLUSIVE MODE"
        };
        raw_sql(lock).execute(&mut connection).await.unwrap();
        Self(connection)
    }

    async fn release(mut self) {
        raw_sql("ROLLBACK").execute(&mut self.0).await.unwrap();
        self.0.close().await.unwrap();
    }
}

struct Rig {
    ledger: String,
    api: Api,
    silent: TcpListener,
    next: i64,
    /// What the repeats of the calls of each step were told.
    seen: BTreeMap<(Step, String), usize>,
    /// Rounds whose calls did not come to their step.
    came_too_late: usize,
}

type Answer = Result<Response<CreateCustomerResponse>, Status>;

impl Rig {
    async fn start(&self, url: &Url) -> Process {
        // Each call has its fate from one attempt.
        let flags = ["--max-attempts=1", "--warm-connections=0"];
        Process::start(url, &self.ledger, KEY, &flags).await
    }

    /// Creates that nobody has made yet.
    fn creates(&mut self) -> Vec<Create> {
        let first = self.next;
        self.next += i64::try_from(CALLS).unwrap();
        let create = |date| Create {
            date,
            id: fresh_id(),
        };
        (first..self.next).map(create).collect()
    }

    /// Brings calls to a step, and says what holds them there.
    async fn bring_to(&mut self, step: Step, before: (usize, usize)) -> Option<Lock> {
        let half = CALLS / 2;
        let (mut came, mut lock) = (true, None);
        match step {
            Step::Reserving => sleep(Duration::from_millis(fastrand::u64(5..30))).await,
            Step::Anywhere => sleep(Duration::from_micros(fastrand::u64(..40_000))).await,
            Step::Reserved => came = timeout(DEADLINE, self.silent.accept()).await.is_ok(),
            Step::Sent => came = self.api.until(|now| now.0 >= before.0 + half).await,
            Step::Answered => {
                came = self.api.until(|now| now.0 >= before.0 + half).await;
                lock = Some(Lock::take(&self.ledger).await);
                self.api.open.send_replace(true);
                came &= self.api.until(|now| now.1 >= before.1 + half).await;
            }
            Step::Told => {}
        }
        self.came_too_late += usize::from(!came);
        lock
    }

    /// Kills a gateway in the middle of calls, and repeats them with another one.
    async fn round(&mut self, step: Step, gateway: Process) -> (Process, Vec<Create>) {
        let gateway = if step == Step::Reserved {
            gateway.kill().await;
            let silent = format!("https://{}", self.silent.local_addr().unwrap());
            self.start(&Url::parse(&silent).unwrap()).await
        } else {
            gateway
        };
        let creates = self.creates();
        let before = *self.api.counts.borrow();
        let holds = matches!(step, Step::Sent | Step::Answered);
        self.api.open.send_replace(!holds);
        let client = gateway.client().await;
        let mut lock = match step {
            Step::Reserving => Some(Lock::take(&self.ledger).await),
            _ => None,
        };
        let calls = make(client, creates.clone(), DEADLINE);
        let told = if step == Step::Told {
            let told = calls.await;
            gateway.kill().await;
            told
        } else {
            let calls = tokio::spawn(calls);
            lock = self.bring_to(step, before).await.or(lock);
            gateway.kill().await;
            calls.await.unwrap()
        };
        if let Some(lock) = lock {
            lock.release().await;
        }
        self.api.open.send_replace(true);
        let gateway = self.start(&self.api.upstream.url()).await;
        // It need not learn what can't be learnt yet.
        let deadline = Duration::from_millis(500);
        let again = make(gateway.client().await, creates.clone(), deadline).await;
        for ((create, told), again) in creates.iter().zip(told).zip(again) {
            self.check(step, create, told.is_ok(), &again);
        }
        (gateway, creates)
    }

    /// What the repeat of a create was told is true.
    fn check(&mut self, step: Step, create: &Create, was_told: bool, again: &Answer) {
        let arrived = self.api.arrived(create.date);
        let what = format!("{step:?}, arrived {arrived} times, told before: {was_told}: {again:?}");
        assert!(arrived <= 1, "{what}");
        let told = match again {
            Ok(response) => {
                assert_eq!(arrived, 1, "{what}");
                let replayed = response.metadata().contains_key(REPLAYED);
                assert!(replayed || !was_told, "{what}");
                if replayed { "replayed" } else { "executed" }.to_owned()
            }
            Err(status) => {
                let details = status.get_error_details();
                let reason = details
                    .error_info()
                    .map_or("no answer", |info| &info.reason);
                let known = [
                    "REQUEST_IN_PROGRESS",
                    "WRITE_UNKNOWN",
                    "DEADLINE_EXCEEDED",
                    "LEDGER_UNAVAILABLE",
                    "no answer",
                ];
                assert!(known.contains(&reason), "{what}");
                reason.to_owned()
            }
        };
        *self.seen.entry((step, told)).or_default() += 1;
    }
}

/// Makes calls at once.
async fn make(
    client: CustomerServiceClient<Channel>,
    creates: Vec<Create>,
    deadline: Duration,
) -> Vec<Answer> {
    let calls = creates.into_iter().map(|create| {
        let mut client = client.clone();
        async move { client.create_customer(create.request(deadline)).await }
    });
    let mut calls: JoinSet<_> = (calls.enumerate())
        .map(|(number, call)| async move { (number, call.await) })
        .collect();
    let mut answers = Vec::new();
    while let Some(answer) = calls.join_next().await {
        answers.push(answer.unwrap());
    }
    answers.sort_by_key(|(number, _)| *number);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Once nothing can be pending any more, each create is known for good.
async fn repeat_for_good(rig: &Rig, gateway: &Process, creates: &[Create]) {
    sleep(DEADLINE + GRACE + Duration::from_secs(1)).await;
    let client = gateway.client().await;
    let answers = stream::iter(creates)
        .map(|create| {
            let mut client = client.clone();
            async move {
                (
                    create,
                    client.create_customer(create.request(PATIENCE)).await,
                )
            }
        })
        .buffer_unordered(CALLS);
    let answers: Vec<_> = answers.collect().await;
    for (create, answer) in answers {
        let arrived = rig.api.arrived(create.date);
        let what = format!("at the end, arrived {arrived} times: {answer:?}");
        assert!(arrived <= 1, "{what}");
        match answer {
            Ok(_) => assert_eq!(arrived, 1, "{what}"),
            Err(status) => {
                let details = status.get_error_details();
                let reason = details.error_info().map(|info| &*info.reason);
                assert_eq!(reason, Some("WRITE_UNKNOWN"), "{what}");
            }
        }
    }
}

async fn crash(store: Store, rounds: usize) {
    let api = Api::start().await;
    let mut rig = Rig {
        ledger: store.url.clone(),
        silent: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        next: fastrand::i64(1_000_000..1_000_000_000),
        api,
        seen: BTreeMap::new(),
        came_too_late: 0,
    };
    let mut gateway = rig.start(&rig.api.upstream.url()).await;
    let mut all = Vec::new();
    for round in 0..rounds {
        let step = STEPS[round % STEPS.len()];
        let (next, creates) = rig.round(step, gateway).await;
        gateway = next;
        all.extend(creates);
    }
    let last = all.len().saturating_sub(REPEATED);
    repeat_for_good(&rig, &gateway, &all[last..]).await;
    gateway.kill().await;
    let (kind, _) = store.url.split_once(':').unwrap();
    let late = rig.came_too_late;
    println!(
        "{kind}: {rounds} rounds, {} killed calls; {late} rounds came too late",
        all.len()
    );
    assert!(late <= rounds / 4, "the test doesn't show what it should");
    for ((step, told), calls) in &rig.seen {
        println!("{kind}: {step:?}: {told} ×{calls}");
    }
}

#[tokio::test]
async fn a_killed_gateway_sends_no_create_twice() {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let rounds = std::env::var("LEDGER_CRASH_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let crashes = Store::all().into_iter().map(|store| crash(store, rounds));
    join_all(crashes).await;
}
