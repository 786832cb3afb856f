//! An OnboardFlow that fails in every way of docs/faults.md, before two gateways with one ledger, whose
//! callers repeat everything at random. `LEDGER_STORM_CREATES=100000` makes so many creates on each store.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::time::{Instant, timeout};
use tracing::subscriber::{NoSubscriber, set_default};
use url::Url;

use super::callers::{All, Callers, date_in, number, seed};
use crate::support::{
    Chance, Config, Event, Fault, Faulty, Gateway, Http2, Life, Manner, Store, resolver,
};

/// Creates of a plain `cargo test`.
const CREATES: u64 = 400;
const CALLERS: usize = 32;
const DEADLINE: Duration = Duration::from_millis(500);
/// What a create takes at most, and all of them besides. Some wait for their deadlines.
const EACH: Duration = Duration::from_millis(40);
const LONGEST: Duration = Duration::from_secs(300);
const STATUSES: [u16; 9] = [400, 404, 408, 422, 429, 500, 501, 502, 503];

/// What a connection meets: half of them are answered as they should be.
fn fault() -> Fault {
    match fastrand::u8(..20) {
        ..10 => Fault::Answers(200),
        10..13 => Fault::Answers(fastrand::choice(STATUSES).unwrap()),
        // No fault of a connection that is made: nobody listens.
        _ => Fault::ALL[fastrand::usize(1..Fault::ALL.len())],
    }
}

fn life() -> Life {
    let requests = fastrand::usize(..20);
    let manner = match fastrand::u8(..20) {
        ..8 => Manner::Answers,
        8..10 => Manner::Refuses(requests),
        10..12 => Manner::GoesAway(requests),
        12..14 => Manner::FallsSilent(requests),
        14 => Manner::HangsUp,
        15 => Manner::TakesAndGoesAway,
        16 => Manner::ResetsTheStream,
        17 => Manner::AllowsNoStreams,
        18 => Manner::AllowsNoBytes,
        _ => Manner::AnswersInInterim,
    };
    Life {
        manner,
        requests,
        pause: Chance::random().pause,
    }
}

/// An OnboardFlow, all that can be found under its name, and what it has seen.
struct Api {
    url: Url,
    addresses: Vec<SocketAddr>,
    root: Option<CertificateDer<'static>>,
    seen: All,
    /// Parts of requests that no date is in.
    nameless: Arc<AtomicU64>,
    _held: (Vec<Faulty>, Vec<Http2>),
}

impl Api {
    /// HTTP/1.1, in plaintext.
    fn plain() -> Self {
        let (seen, nameless) = (All::default(), Arc::new(AtomicU64::new(0)));
        let (all, unnamed) = (seen.clone(), Arc::clone(&nameless));
        let tell = move |event, request: &[u8]| match (date_in(request), event) {
            (Some(date), Event::Arrived) => all.arrived(date),
            (Some(date), Event::Rejected) => all.rejected(date),
            (None, _) => drop(unnamed.fetch_add(1, Relaxed)),
        };
        let faulty = Faulty::telling(|| (fault(), Chance::random()), tell);
        let nobody = Faulty::start(Fault::Refuses, Chance::random());
        Self {
            url: Url::parse("http://api.test").unwrap(),
            addresses: [vec![faulty.address; 18], vec![nobody.address]].concat(),
            root: None,
            seen,
            nameless,
            _held: (vec![faulty, nobody], Vec::new()),
        }
    }

    /// HTTP/2, over TLS.
    async fn encrypted() -> Self {
        let seen = All::default();
        let all = seen.clone();
        let tell = move |body: &[u8]| all.arrived(date_in(body).unwrap());
        let http2 = Http2::telling(|_| life(), tell).await;
        let untrusted = Http2::start(Manner::Answers).await;
        let nobody = Faulty::start(Fault::Refuses, Chance::random());
        let no_tls = Faulty::start(Fault::TalksFirst, Chance::random());
        let others = vec![untrusted.address, nobody.address, no_tls.address];
        Self {
            url: Url::parse("https://localhost").unwrap(),
            addresses: [vec![http2.address; 16], others].concat(),
            root: Some(http2.certificate.clone()),
            seen,
            nameless: Arc::default(),
            _held: (vec![nobody, no_tls], vec![http2, untrusted]),
        }
    }

    async fn gateway(&self, store: &Store) -> Gateway {
        let mut config = Config::new(self.url.clone());
        let addresses = self.addresses.clone();
        // At times nobody knows the name.
        let find = move || addresses.get(fastrand::usize(..20)).copied();
        config.upstream.resolver = Some(resolver(find));
        config.upstream.extra_roots.extend(self.root.clone());
        config.upstream.max_response_bytes = 16 << 10;
        // It is called whatever it does.
        config.upstream.breaker = None;
        config.ledger = Some(store.ledger());
        Gateway::start(config).await
    }
}

async fn storm(store: &Store, api: &Api, creates: u64) {
    let begun = Instant::now();
    let gateways = [api.gateway(store).await, api.gateway(store).await];
    let clients = [gateways[0].client().await, gateways[1].client().await];
    let left = AtomicU64::new(creates);
    let more = || {
        let less = |left: u64| left.checked_sub(1);
        left.fetch_update(Relaxed, Relaxed, less).is_ok()
    };
    let callers = Callers::new(clients, api.seen.clone(), DEADLINE);
    let sum = callers.call(CALLERS, more).await;
    drop(callers);
    for gateway in gateways {
        gateway.stop().await;
    }
    let (kind, _) = store.url.split_once(':').unwrap();
    let (nameless, took) = (api.nameless.load(Relaxed), begun.elapsed());
    let url = &api.url;
    println!("{kind}, {url}: {sum:?}, none twice; {nameless} parts without a date; {took:?}");
    assert!(sum.told.contains_key("executed") && sum.told.contains_key("WRITE_UNKNOWN"));
    assert_eq!(u64::try_from(sum.creates).unwrap(), creates);
}

async fn storms(store: Store) {
    seed("LEDGER_STORM_SEED");
    // What so many calls log would fill the memory.
    let _quiet = set_default(NoSubscriber::default());
    let creates = number("LEDGER_STORM_CREATES", CREATES);
    let longest = LONGEST + EACH * u32::try_from(creates).unwrap();
    let storms = async {
        storm(&store, &Api::plain(), creates / 2).await;
        storm(&store, &Api::encrypted().await, creates - creates / 2).await;
    };
    timeout(longest, storms).await.expect("it ends in time");
}

#[tokio::test]
async fn no_create_is_sent_twice_before_an_api_that_fails_in_every_way() {
    storms(Store::sqlite()).await;
}

/// On the PostgreSQL that `LEDGER_TEST_POSTGRES` names.
#[tokio::test]
async fn no_create_is_sent_twice_with_a_ledger_in_postgresql() {
    match Store::postgres() {
        Some(store) => storms(store).await,
        None => println!("NOT TESTED: there is no LEDGER_TEST_POSTGRES"),
    }
}
