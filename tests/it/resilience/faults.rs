//! Faults × outcomes: each fault many times, with random timing, as create and as update.
//!
//! Prints the table of docs/faults.md. `FAULT_TRIALS=1000 cargo test --test it faults_and_outcomes --
//! --nocapture` makes a thousand trials of each; without the variable there are a few.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use onboardflow_gateway::proto::{CustomerEvent, customer_service_client::CustomerServiceClient};
use rustls::pki_types::CertificateDer;
use tonic::{Code, Status, transport::Channel};
use url::Url;

use crate::support::{
    Chance, Config, Fault, Faulty, Gateway, Http2, Manner, create_request, told, update_request,
};

type Client = CustomerServiceClient<Channel>;

/// What a caller got: `OK`, or reason and `write`.
type Outcome = String;

const DEADLINE: Duration = Duration::from_millis(400);
/// How late an answer may be.
const LATE: Duration = Duration::from_millis(100);
/// Gateway, upstream and client share a thread, and maybe a busy machine: each of the steps that an
/// answer takes through them may wait for as long as [`stall`] says.
const STEPS: u32 = 5;
const AT_ONCE: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rpc {
    Create,
    Update,
}

#[derive(Debug)]
struct Trial {
    outcome: Outcome,
    took: Duration,
}

/// The longest that this test's thread was kept from its work, in microseconds.
static LONGEST_STALL: AtomicU64 = AtomicU64::new(0);

async fn watch_for_stalls() {
    const BEAT: Duration = Duration::from_millis(5);
    loop {
        let started = tokio::time::Instant::now();
        tokio::time::sleep(BEAT).await;
        let stall = started.elapsed().saturating_sub(BEAT);
        let stall = u64::try_from(stall.as_micros()).unwrap();
        LONGEST_STALL.fetch_max(stall, Relaxed);
    }
}

#[tokio::test]
async fn faults_and_outcomes() {
    tokio::spawn(watch_for_stalls());
    let trials = trials();
    let mut table = String::from("\n| fault | call | outcomes | longest |\n|---|---|---|---|\n");
    for fault in troubles() {
        for rpc in [Rpc::Create, Rpc::Update] {
            let ended: Vec<Trial> = stream::iter(0..trials)
                .map(|_| trial(fault, rpc))
                .buffer_unordered(AT_ONCE)
                .collect()
                .await;
            let longest = ended.iter().map(|trial| trial.took).max().unwrap();
            let mut outcomes = BTreeMap::<_, usize>::new();
            for trial in ended {
                *outcomes.entry(trial.outcome).or_default() += 1;
            }
            let outcomes: Vec<_> = outcomes
                .iter()
                .map(|(outcome, count)| format!("{outcome} ×{count}"))
                .collect();
            let outcomes = outcomes.join(", ");
            writeln!(
                table,
                "| {fault} | {rpc:?} | {outcomes} | {} ms |",
                longest.as_millis()
            )
            .unwrap();
        }
    }
    let stall = LONGEST_STALL.load(Relaxed) / 1000;
    println!("{trials} trials of each; this thread stalled for {stall} ms at most\n{table}");
}

/// What is tried: faults in plaintext, and those that need TLS or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Wire(Fault),
    /// HTTP/2: `REFUSED_STREAM` once or twice, then an answer.
    StreamsRefused,
    AllStreamsRefused,
    /// HTTP/2: `GOAWAY` in place of the first answer.
    GoAway,
    Http2HangsUp,
    /// A certificate that nobody vouches for.
    Untrusted,
    /// Something else than TLS.
    NoTls,
    UnknownName,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wire(fault) => write!(f, "{fault:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

fn troubles() -> impl Iterator<Item = Trouble> {
    Fault::ALL.map(Trouble::Wire).into_iter().chain([
        Trouble::StreamsRefused,
        Trouble::AllStreamsRefused,
        Trouble::GoAway,
        Trouble::Http2HangsUp,
        Trouble::Untrusted,
        Trouble::NoTls,
        Trouble::UnknownName,
    ])
}

/// The upstream of a trial.
enum Site {
    Plain(Faulty),
    /// Whether its certificate is trusted.
    Encrypted(Http2, bool),
    Nowhere,
}

impl Site {
    async fn start(trouble: Trouble) -> Self {
        let cut = fastrand::usize(..10_000);
        let pause = pause();
        let manner = match trouble {
            Trouble::Wire(fault) => {
                return Self::Plain(Faulty::start(fault, Chance { cut, pause }));
            }
            Trouble::NoTls => {
                return Self::Plain(Faulty::start(Fault::TalksFirst, Chance { cut, pause }));
            }
            Trouble::UnknownName => return Self::Nowhere,
            Trouble::StreamsRefused => Manner::Refuses(1 + cut % 2),
            Trouble::AllStreamsRefused => Manner::Refuses(usize::MAX),
            Trouble::GoAway => Manner::GoesAway(0),
            Trouble::Http2HangsUp => Manner::HangsUp,
            Trouble::Untrusted => Manner::Answers,
        };
        let upstream = Http2::start_after(manner, pause).await;
        Self::Encrypted(upstream, trouble != Trouble::Untrusted)
    }

    fn url(&self) -> Url {
        match self {
            Self::Plain(upstream) if upstream.fault == Fault::TalksFirst => {
                let mut url = upstream.url();
                url.set_scheme("https").unwrap();
                url
            }
            Self::Plain(upstream) => upstream.url(),
            Self::Encrypted(upstream, _) => upstream.url(),
            Self::Nowhere => Url::parse("http://upstream.invalid").unwrap(),
        }
    }

    fn roots(&self) -> Vec<CertificateDer<'static>> {
        match self {
            Self::Encrypted(upstream, true) => vec![upstream.certificate.clone()],
            _ => Vec::new(),
        }
    }

    /// Bytes of requests that were taken; of HTTP/2, requests that were not refused.
    fn bytes(&self) -> usize {
        match self {
            Self::Plain(upstream) => upstream.seen.bytes(),
            Self::Encrypted(upstream, _) => upstream.requests(),
            Self::Nowhere => 0,
        }
    }

    fn whole(&self) -> usize {
        match self {
            Self::Plain(upstream) => upstream.seen.whole(),
            Self::Encrypted(upstream, _) => upstream.requests(),
            Self::Nowhere => 0,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no flags")]
fn trials() -> usize {
    std::env::var("FAULT_TRIALS").map_or(4, |trials| trials.parse().unwrap())
}

fn assert_in_time(took: Duration, context: &str) {
    let stall = Duration::from_micros(LONGEST_STALL.load(Relaxed));
    assert!(
        took < DEADLINE + LATE + STEPS * stall,
        "{took:?}, stalled for {stall:?}: {context}"
    );
}

fn pause() -> Duration {
    Duration::from_micros(fastrand::u64(..3000))
}

/// One call before one upstream, so that all that it received is this call's.
async fn trial(fault: Trouble, rpc: Rpc) -> Trial {
    let upstream = Site::start(fault).await;
    let mut config = Config::new(upstream.url());
    config.upstream.extra_roots = upstream.roots();
    config.server.default_timeout = DEADLINE;
    config.server.reflection = false; // takes longer to set up than all the rest
    config.upstream.max_response_bytes = 16 << 10;
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;

    let is_kept = matches!(
        fault,
        Trouble::Wire(Fault::TwoAnswers | Fault::ClosesBetween)
    );
    if is_kept {
        first_call(&mut client).await;
        tokio::time::sleep(pause()).await;
    }
    let (bytes_before, whole_before) = (upstream.bytes(), upstream.whole());

    #[expect(clippy::disallowed_methods, reason = "real time, as sockets take it")]
    let started = Instant::now();
    let answered = call(&mut client, rpc).await;
    let took = started.elapsed();
    drop(client);
    gateway.stop().await;

    let bytes = upstream.bytes() - bytes_before;
    let whole = upstream.whole() - whole_before;
    let context = format!("{fault:?} {rpc:?}: {bytes} bytes, {whole} requests, {answered:?}");
    assert_in_time(took, &context);
    assert!(rpc == Rpc::Update || whole <= 1, "sent twice: {context}");
    let outcome = match answered {
        Ok(event) => {
            assert_eq!(
                event.unwrap().id,
                979_924,
                "another call's answer: {context}"
            );
            assert!(
                whole >= 1 || fault == Trouble::Wire(Fault::AnswersEarly),
                "{context}"
            );
            "OK".to_owned()
        }
        Err(status) => {
            let told = told(&status);
            assert!(told.write != "not_sent" || bytes == 0, "{context}");
            format!("{:?} {} {}", told.code, told.reason, told.write)
        }
    };
    let allowed = allowed(fault, rpc);
    // On a machine that is busy with other things any call may run out of time.
    let is_late = took >= DEADLINE && outcome.contains("DEADLINE_EXCEEDED");
    assert!(
        is_late || allowed.contains(&outcome.as_str()),
        "{outcome}, not {allowed:?}: {context}"
    );
    Trial { outcome, took }
}

/// The call that leaves a kept connection behind.
async fn first_call(client: &mut Client) {
    let first = loop {
        match call(client, Rpc::Create).await {
            Ok(first) => break first,
            // On a machine that is busy with other things it may run out of time.
            Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}"),
        }
    };
    assert_eq!(first.unwrap().id, 979_924);
}

async fn call(client: &mut Client, rpc: Rpc) -> Result<Option<CustomerEvent>, Status> {
    match rpc {
        Rpc::Create => {
            let answered = client.create_customer(create_request()).await;
            answered.map(|response| response.into_inner().event)
        }
        Rpc::Update => {
            let answered = client.update_customer(update_request()).await;
            answered.map(|response| response.into_inner().event)
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
        // A delay that doesn't fit into the time left ends a call at once.
        Trouble::StreamsRefused | Trouble::GoAway => return &["OK", UNREACHABLE],
        Trouble::AllStreamsRefused | Trouble::Untrusted | Trouble::NoTls | Trouble::UnknownName => {
            return &[UNREACHABLE];
        }
        Trouble::Http2HangsUp => Fault::ResetsAfterTheRequest,
    };
    match (fault, rpc) {
        (Fault::Refuses | Fault::TalksFirst, _) => &[UNREACHABLE],
        // It depends on whether the gateway sees the end before it writes.
        (Fault::ClosesAtOnce, Rpc::Create) => &[UNREACHABLE, CREATE_LOST],
        (Fault::ClosesAtOnce, Rpc::Update) => &[UNREACHABLE, UPDATE_LOST],
        (
            Fault::ClosesWithinTheRequest
            | Fault::ResetsWithinTheRequest
            | Fault::ResetsAfterTheRequest
            | Fault::HalfAHead
            | Fault::Garbage,
            Rpc::Create,
        ) => &[CREATE_LOST],
        (
            Fault::ClosesWithinTheRequest
            | Fault::ResetsWithinTheRequest
            | Fault::ResetsAfterTheRequest
            | Fault::HalfAHead
            | Fault::Garbage,
            Rpc::Update,
        ) => &[UPDATE_LOST],
        (Fault::AnswersEarly | Fault::Continue, _)
        | (Fault::TwoAnswers | Fault::ClosesBetween, Rpc::Update) => &["OK"],
        (Fault::HalfABody | Fault::LengthTooLong | Fault::LengthTooShort, _) => {
            &[UNREADABLE, APPLIED]
        }
        (Fault::EndlessChunks, _) => &[UNREADABLE],
        (Fault::OneByteASecond | Fault::NeverAnswers, _) => &[TOO_LATE],
        (Fault::Redirects, _) => &["Internal UPSTREAM_CONTRACT_BROKEN rejected"],
        // A server may close at the moment in which the next request leaves.
        (Fault::TwoAnswers | Fault::ClosesBetween, Rpc::Create) => &["OK", CREATE_LOST],
    }
}
