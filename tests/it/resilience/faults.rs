//! Faults × outcomes: each fault many times, with random timing, as create and as update.
//!
//! Prints the table of docs/faults.md. `FAULT_TRIALS=1000 cargo test --test it faults_and_outcomes --
//! --nocapture` makes a thousand trials of each; without the variable there are a few. `FAULT_SEED`, which a run
//! prints, makes the same trials again.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use onboardflow_gateway::{
    config::Resolver,
    proto::{CustomerEvent, customer_service_client::CustomerServiceClient},
};
use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, transport::Channel};
use url::Url;

use crate::support::{
    Chance, Config, Fault, Faulty, Gateway, Http2, Manner, create_request, resolver, told,
    update_request,
};

type Client = CustomerServiceClient<Channel>;

/// What a caller got: `OK`, or code, reason and `write`.
type Outcome = String;

const DEADLINE: Duration = Duration::from_secs(1);
/// How late an answer may be.
const LATE: Duration = Duration::from_millis(100);
const AT_ONCE: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rpc {
    Create,
    Update,
}

/// When this test's thread came late to its work, and by how much. Gateway, upstream and client
/// share it, and the machine with other things.
static STALLS: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());
const BEAT: Duration = Duration::from_millis(5);

async fn watch_for_stalls() {
    loop {
        let started = Instant::now();
        sleep(BEAT).await;
        let stall = started.elapsed().saturating_sub(BEAT);
        STALLS.lock().unwrap().push((Instant::now(), stall));
    }
}

/// How long the thread was kept from its work since then, in all.
fn stalled_since(then: Instant) -> Duration {
    let stalls = STALLS.lock().unwrap();
    let since = stalls.iter().rev().take_while(|(at, _)| *at >= then);
    since.map(|(_, stall)| *stall).sum()
}

#[tokio::test]
async fn faults_and_outcomes() {
    seed();
    tokio::spawn(watch_for_stalls());
    let trials = trials();
    let rows = troubles().flat_map(|trouble| [(trouble, Rpc::Create), (trouble, Rpc::Update)]);
    let mut todo: Vec<_> = rows.flat_map(|row| vec![row; trials]).collect();
    // Mixed, so that those that wait for the deadline leave the thread to those that compute.
    fastrand::shuffle(&mut todo);
    let ended: Vec<_> = stream::iter(todo)
        .map(|(trouble, rpc)| async move { ((trouble, rpc), trial(trouble, rpc).await) })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;

    let mut rows = BTreeMap::<_, (BTreeMap<Outcome, usize>, Duration)>::new();
    for (row, (outcome, took)) in ended {
        let (outcomes, longest) = rows.entry(row).or_default();
        *outcomes.entry(outcome).or_default() += 1;
        *longest = took.max(*longest);
    }
    let mut table = String::from("\n| fault | call | outcomes | longest |\n|---|---|---|---|\n");
    for ((trouble, rpc), (outcomes, longest)) in rows {
        let outcomes = outcomes
            .iter()
            .map(|(what, count)| format!("{what} ×{count}"));
        let outcomes = outcomes.collect::<Vec<_>>().join(", ");
        let longest = longest.as_millis();
        writeln!(
            table,
            "| {} | {rpc:?} | {outcomes} | {longest} ms |",
            trouble.name()
        )
        .unwrap();
    }
    println!("{trials} trials of each\n{table}");
}

/// Whatever meets calls one after the other, and their kept connections: what each caller is told is
/// true.
#[tokio::test]
async fn sequences_of_faults() {
    seed();
    tokio::spawn(watch_for_stalls());
    stream::iter(0..trials())
        .for_each_concurrent(AT_ONCE, |_| sequence())
        .await;
}

async fn sequence() {
    let upstream = Faulty::with(|| {
        // No fault of a connection that is made: nobody listens.
        let fault = Fault::ALL[fastrand::usize(1..Fault::ALL.len())];
        (fault, Chance::random())
    });
    let mut config = Config::new(upstream.url());
    config.server.default_timeout = DEADLINE / 4;
    config.upstream.max_response_bytes = 16 << 10;
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    for _ in 0..10 {
        let rpc = fastrand::choice([Rpc::Create, Rpc::Update]).unwrap();
        let (bytes, whole) = (upstream.seen.bytes(), upstream.seen.whole());
        let answered = call(&mut client, rpc).await;
        let arrived = Arrived {
            bytes: upstream.seen.bytes() - bytes,
            whole: upstream.seen.whole() - whole,
        };
        arrived.check(rpc, &answered, "sequence");
        sleep(Chance::random().pause).await;
    }
    gateway.stop().await;
}

/// What is tried: faults in plaintext, and those that need TLS or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Wire(Fault),
    /// HTTP/2: `REFUSED_STREAM` once or twice, then an answer.
    StreamsRefused,
    AllStreamsRefused,
    /// HTTP/2: `GOAWAY` in place of the first answer.
    GoAway,
    /// The same on a connection that was used before.
    GoAwayBetween,
    /// HTTP/2: a `GOAWAY` that doesn't leave the request out.
    TakenAndGoAway,
    StreamReset,
    Http2HangsUp,
    /// HTTP/2: `MAX_CONCURRENT_STREAMS` of 0.
    NoStreams,
    /// HTTP/2: a window of 0.
    NoWindow,
    /// HTTP/2: a kept connection on which nothing comes back any more.
    Http2FallsSilent,
    /// HTTP/2: `102 Processing`, again and again.
    Http2EndlessInterim,
    /// A certificate that nobody vouches for.
    Untrusted,
    /// Something else than TLS.
    NoTls,
    UnknownName,
    /// A name that can't be resolved up to three times.
    NameComesBack,
}

impl Trouble {
    fn name(self) -> String {
        match self {
            Self::Wire(fault) => format!("{fault:?}"),
            other => format!("{other:?}"),
        }
    }

    /// Whether it meets a connection that was used before.
    fn meets_a_kept_connection(self) -> bool {
        match self {
            Self::Wire(fault) => matches!(
                fault,
                Fault::TwoAnswers | Fault::ClosesBetween | Fault::FallsSilent
            ),
            other => matches!(other, Self::GoAwayBetween | Self::Http2FallsSilent),
        }
    }
}

fn troubles() -> impl Iterator<Item = Trouble> {
    Fault::ALL.map(Trouble::Wire).into_iter().chain([
        Trouble::StreamsRefused,
        Trouble::AllStreamsRefused,
        Trouble::GoAway,
        Trouble::GoAwayBetween,
        Trouble::TakenAndGoAway,
        Trouble::StreamReset,
        Trouble::Http2HangsUp,
        Trouble::NoStreams,
        Trouble::NoWindow,
        Trouble::Http2FallsSilent,
        Trouble::Http2EndlessInterim,
        Trouble::Untrusted,
        Trouble::NoTls,
        Trouble::UnknownName,
        Trouble::NameComesBack,
    ])
}

/// The upstream of a trial.
struct Site {
    url: Url,
    /// The certificate to trust.
    root: Option<CertificateDer<'static>>,
    resolver: Option<Resolver>,
    server: Server,
}

enum Server {
    Plain(Faulty),
    Encrypted(Http2),
    Nobody,
}

impl Site {
    async fn start(trouble: Trouble) -> Self {
        let chance = Chance::random();
        let manner = match trouble {
            Trouble::Wire(fault) => return Self::plain(Faulty::start(fault, chance)),
            Trouble::NoTls => {
                let mut site = Self::plain(Faulty::start(Fault::TalksFirst, chance));
                site.url.set_scheme("https").unwrap();
                return site;
            }
            Trouble::NameComesBack => {
                let upstream = Faulty::start(Fault::Continue, chance);
                let (address, asked) = (upstream.address, AtomicUsize::new(0));
                let mut site = Self::plain(upstream);
                site.url.set_host(Some("api.test")).unwrap();
                site.resolver = Some(resolver(move || {
                    let is_back = asked.fetch_add(1, Relaxed) >= chance.cut % 4;
                    is_back.then_some(address)
                }));
                return site;
            }
            Trouble::UnknownName => return Self::nowhere(),
            Trouble::StreamsRefused => Manner::Refuses(1 + chance.cut % 2),
            Trouble::AllStreamsRefused => Manner::Refuses(usize::MAX),
            Trouble::GoAway => Manner::GoesAway(0),
            Trouble::GoAwayBetween => Manner::GoesAway(1),
            Trouble::TakenAndGoAway => Manner::TakesAndGoesAway,
            Trouble::StreamReset => Manner::ResetsTheStream,
            Trouble::Http2HangsUp => Manner::HangsUp,
            Trouble::NoStreams => Manner::AllowsNoStreams,
            Trouble::NoWindow => Manner::AllowsNoBytes,
            Trouble::Http2FallsSilent => Manner::FallsSilent(1),
            Trouble::Http2EndlessInterim => Manner::AnswersInInterim,
            Trouble::Untrusted => Manner::Answers,
        };
        let upstream = Http2::start_after(manner, chance.pause).await;
        let is_trusted = trouble != Trouble::Untrusted;
        Self {
            url: upstream.url(),
            root: is_trusted.then(|| upstream.certificate.clone()),
            resolver: None,
            server: Server::Encrypted(upstream),
        }
    }

    fn plain(upstream: Faulty) -> Self {
        Self {
            url: upstream.url(),
            root: None,
            resolver: None,
            server: Server::Plain(upstream),
        }
    }

    fn nowhere() -> Self {
        Self {
            url: Url::parse("http://upstream.invalid").unwrap(),
            root: None,
            resolver: None,
            server: Server::Nobody,
        }
    }

    fn arrived(&self) -> Arrived {
        match &self.server {
            Server::Plain(upstream) => Arrived {
                bytes: upstream.seen.bytes(),
                whole: upstream.seen.whole(),
            },
            // Requests that were not refused, and nothing between them and nothing.
            Server::Encrypted(upstream) => Arrived {
                bytes: upstream.requests(),
                whole: upstream.requests(),
            },
            Server::Nobody => Arrived::default(),
        }
    }
}

/// What really arrived of a call.
#[derive(Clone, Copy, Debug, Default)]
struct Arrived {
    bytes: usize,
    /// Requests that arrived whole.
    whole: usize,
}

impl Arrived {
    /// What the caller got, which has to be true.
    fn check(
        self,
        rpc: Rpc,
        answered: &Result<Option<CustomerEvent>, Status>,
        what: &str,
    ) -> Outcome {
        let context = format!("{what} {rpc:?}: {self:?}, {answered:?}");
        assert!(
            rpc == Rpc::Update || self.whole <= 1,
            "sent twice: {context}"
        );
        match answered {
            Ok(event) => {
                let id = event.as_ref().unwrap().id;
                assert_eq!(id, 979_924, "another call's answer: {context}");
                // More than the head of it, where it was answered before it was read.
                assert!(self.bytes > 0, "{context}");
                "OK".to_owned()
            }
            Err(status) => {
                let told = told(status);
                assert!(told.write != "not_sent" || self.bytes == 0, "{context}");
                format!("{:?} {} {}", told.code, told.reason, told.write)
            }
        }
    }
}

/// Makes what is random in this test repeatable, as far as its timing is: `FAULT_SEED` is the number
/// that a failed run printed.
#[expect(clippy::disallowed_methods, reason = "tests have no flags")]
fn seed() {
    let seed = std::env::var("FAULT_SEED").map_or_else(
        |_| fastrand::u64(..),
        |seed| seed.parse().expect("FAULT_SEED is a number"),
    );
    println!("FAULT_SEED={seed}");
    fastrand::seed(seed);
}

#[expect(clippy::disallowed_methods, reason = "tests have no flags")]
fn trials() -> usize {
    std::env::var("FAULT_TRIALS").map_or(4, |trials| trials.parse().unwrap())
}

/// One call before one upstream, so that all that it received is this call's.
async fn trial(trouble: Trouble, rpc: Rpc) -> (Outcome, Duration) {
    let begun = Instant::now();
    let upstream = Site::start(trouble).await;
    let mut config = Config::new(upstream.url.clone());
    config.upstream.extra_roots.extend(upstream.root.clone());
    config.upstream.resolver.clone_from(&upstream.resolver);
    config.server.default_timeout = DEADLINE;
    config.server.reflection = false; // takes longer to set up than all the rest
    config.upstream.max_response_bytes = 16 << 10;
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    if trouble.meets_a_kept_connection() {
        first_call(&mut client).await;
        sleep(Chance::random().pause).await;
    }

    let before = upstream.arrived();
    let started = Instant::now();
    let answered = call(&mut client, rpc).await;
    let took = started.elapsed();
    drop(client);
    gateway.stop().await;
    let after = upstream.arrived();
    let arrived = Arrived {
        bytes: after.bytes - before.bytes,
        whole: after.whole - before.whole,
    };
    let outcome = arrived.check(rpc, &answered, &trouble.name());

    let context = format!("{}, {rpc:?} after {took:?}", trouble.name());
    if took >= DEADLINE + LATE {
        sleep(2 * BEAT).await; // for the last stall to be noticed
        let stalled = stalled_since(started + DEADLINE);
        assert!(
            took < DEADLINE + LATE + stalled,
            "{context}, {stalled:?} stalled"
        );
    }
    let allowed = allowed(trouble, rpc);
    if !allowed.contains(&outcome.as_str()) {
        // Where the machine takes the time, any call may run out of it, or of that for a retry; the call
        // that leaves a kept connection behind, too, and then the connection that misbehaves is gone.
        // An attempt of an update's that timed out makes `unknown` of what the next one says.
        let is_late = outcome.contains("DEADLINE_EXCEEDED")
            || outcome.contains("UPSTREAM_UNREACHABLE")
            || rpc == Rpc::Update && outcome.ends_with(" unknown")
            || trouble.meets_a_kept_connection() && outcome == "OK";
        assert!(
            is_late && stalled_since(begun) > DEADLINE / 4,
            "{outcome}, not {allowed:?}: {context}"
        );
    }
    (outcome, took)
}

/// The call that leaves a kept connection behind.
async fn first_call(client: &mut Client) {
    let first = loop {
        match call(client, Rpc::Create).await {
            Ok(first) => break first,
            // On a machine that is busy with other things it may run out of time, a dial's or its own.
            Err(status) if status.code() == Code::DeadlineExceeded => {}
            Err(status) => assert_eq!(told(&status).reason, "UPSTREAM_UNREACHABLE", "{status:?}"),
        }
    };
    assert_eq!(first.unwrap().id, 979_924);
}

async fn call(client: &mut Client, rpc: Rpc) -> Result<Option<CustomerEvent>, Status> {
    match rpc {
        Rpc::Create => {
            let answered = client.create_customer(create_request()).await;
            answered.map(|response| response.into_inner().event.map(|event| *event))
        }
        Rpc::Update => {
            let answered = client.update_customer(update_request()).await;
            answered.map(|response| response.into_inner().event.map(|event| *event))
        }
    }
}

/// The rows of the contract that a fault may end in.
fn allowed(trouble: Trouble, rpc: Rpc) -> &'static [&'static str] {
    const UNREACHABLE: &str = "Unavailable UPSTREAM_UNREACHABLE not_sent";
    const CREATE_LOST: &str = "Unknown UPSTREAM_CONNECTION_LOST unknown";
    const UPDATE_LOST: &str = "Unavailable UPSTREAM_CONNECTION_LOST unknown";
    const UNREADABLE: &str = "Internal UPSTREAM_REPLY_UNREADABLE unknown";
    const APPLIED: &str = "Internal UPSTREAM_REPLY_UNREADABLE applied";
    const TOO_LATE: &str = "DeadlineExceeded DEADLINE_EXCEEDED unknown";

    let fault = match trouble {
        Trouble::Wire(fault) => fault,
        Trouble::StreamsRefused | Trouble::GoAway | Trouble::GoAwayBetween => return &["OK"],
        // Three failures are as many as there are attempts.
        Trouble::NameComesBack => return &["OK", UNREACHABLE],
        Trouble::AllStreamsRefused | Trouble::Untrusted | Trouble::NoTls | Trouble::UnknownName => {
            return &[UNREACHABLE];
        }
        // A request may leave before the server's settings are read, and is answered then.
        Trouble::NoStreams | Trouble::NoWindow => return &["OK", TOO_LATE],
        Trouble::Http2FallsSilent => Fault::FallsSilent,
        Trouble::Http2EndlessInterim => Fault::EndlessInterim,
        Trouble::Http2HangsUp | Trouble::TakenAndGoAway | Trouble::StreamReset => {
            Fault::ResetsAfterTheRequest
        }
    };
    let lost: &[_] = match rpc {
        Rpc::Create => &[CREATE_LOST],
        Rpc::Update => &[UPDATE_LOST],
    };
    match (fault, rpc) {
        (Fault::Refuses | Fault::TalksFirst, _) => &[UNREACHABLE],
        (Fault::Answers(_), _) => unreachable!("it is none of the rows"),
        // It depends on whether the gateway sees the end before it writes.
        (Fault::ClosesAtOnce, Rpc::Create) => &[UNREACHABLE, CREATE_LOST],
        (Fault::ClosesAtOnce, Rpc::Update) => &[UNREACHABLE, UPDATE_LOST],
        (
            Fault::ClosesWithinTheRequest
            | Fault::ResetsWithinTheRequest
            | Fault::ResetsAfterTheRequest
            | Fault::HalfAHead
            | Fault::Garbage
            | Fault::EndlessInterim
            | Fault::AnothersAnswer,
            _,
        ) => lost,
        // A connection that falls silent costs an attempt: an update's next one goes elsewhere.
        (Fault::AnswersEarly | Fault::Continue, _)
        | (Fault::TwoAnswers | Fault::ClosesBetween | Fault::FallsSilent, Rpc::Update) => &["OK"],
        (Fault::HalfABody | Fault::LengthTooLong | Fault::LengthTooShort, _) => {
            &[UNREADABLE, APPLIED]
        }
        (Fault::EndlessChunks | Fault::NoContent | Fault::GzipMembers, _) => &[UNREADABLE],
        (Fault::OneByteASecond | Fault::NeverAnswers, _) | (Fault::FallsSilent, Rpc::Create) => {
            &[TOO_LATE]
        }
        (Fault::Redirects, _) => &["Internal UPSTREAM_CONTRACT_BROKEN rejected"],
        // A server may close at the moment in which the next request leaves.
        (Fault::TwoAnswers | Fault::ClosesBetween, Rpc::Create) => &["OK", CREATE_LOST],
    }
}
