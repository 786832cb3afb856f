//! The ledger on SQLite, and on the PostgreSQL that `LEDGER_TEST_POSTGRES` names.

use std::{
    collections::HashSet,
    env,
    sync::atomic::{AtomicU64, Ordering},
};

use tempfile::TempDir;

use super::*;

const CALL: [&[u8]; 3] = [
    b"POST",
    b"/",
    br#"{"customer_email":"test@onboardflow.com"}"#,
];
const OTHER: [&[u8]; 3] = [b"POST", b"/", b"{}"];

/// A place for a ledger, and what it takes to keep it.
struct Place(Location, Option<TempDir>);

fn places() -> Vec<Place> {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let postgres = env::var("LEDGER_TEST_POSTGRES").ok();
    let directory = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}/l 100%.db", directory.path().display());
    let sqlite = Place(Location::parse(&file).unwrap(), Some(directory));
    let postgres = postgres.map(|url| Place(Location::parse(&url).unwrap(), None));
    [sqlite].into_iter().chain(postgres).collect()
}

impl Place {
    fn open(&self) -> Ledger {
        Ledger::new(&self.0).unwrap()
    }
}

/// An id that no other test has.
fn fresh() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn create<'a>(id: &'a str, call: [&'a [u8]; 3]) -> Write<'a> {
    Write {
        request_id: id.as_bytes(),
        id_begins: &id[..8],
        site_key: "f37F2PPh",
        site: "site-b30ef3aa",
        method: "POST /",
        call,
        may_repeat: false,
    }
}

fn update<'a>(id: &'a str, call: [&'a [u8]; 3]) -> Write<'a> {
    Write {
        may_repeat: true,
        ..create(id, call)
    }
}

/// Begins a write that has a minute, and waits for no other.
async fn begin(ledger: &Ledger, write: &Write<'_>) -> Begun {
    begin_with(ledger, write, None, &Progress::default()).await
}

async fn begin_with(
    ledger: &Ledger,
    write: &Write<'_>,
    take: Option<Take>,
    progress: &Progress,
) -> Begun {
    let now = Instant::now();
    let times = (now, now + Duration::from_secs(60));
    ledger.begin(write, take, progress, times).await.unwrap()
}

fn reserved(begun: Begun) -> Reservation {
    match begun {
        Begun::Reserved(reservation) => reservation,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_applied_write_is_answered_again_over_replicas_and_restarts() {
    for place in places() {
        let (id, ledger) = (fresh(), place.open());
        let write = create(&id, CALL);
        let reservation = reserved(begin(&ledger, &write).await);
        assert!(matches!(begin(&ledger, &write).await, Begun::UnderWay));
        reservation.applied(Some(b"the event".to_vec())).await;
        ledger.close().await;

        let restarted = place.open();
        match begin(&restarted, &write).await {
            Begun::Applied(Some(response)) => assert_eq!(response, b"the event"),
            other => panic!("{other:?}"),
        }
        let other = create(&id, OTHER);
        assert!(matches!(begin(&restarted, &other).await, Begun::Reused));
        restarted.close().await;
    }
}

#[tokio::test]
async fn what_was_not_applied_may_be_tried_again_and_with_another_request() {
    for place in places() {
        let (id, ledger) = (fresh(), place.open());
        reserved(begin(&ledger, &create(&id, CALL)).await)
            .free()
            .await;
        reserved(begin(&ledger, &create(&id, OTHER)).await)
            .unknown()
            .await;
    }
}

#[tokio::test]
async fn a_create_of_unknown_fate_is_never_sent_again_and_an_update_is() {
    for place in places() {
        let (created, updated, ledger) = (fresh(), fresh(), place.open());
        for write in [create(&created, CALL), update(&updated, CALL)] {
            reserved(begin(&ledger, &write).await).unknown().await;
        }
        let again = begin(&ledger, &create(&created, CALL)).await;
        assert!(matches!(again, Begun::Unknown(_)), "{again:?}");
        let again = begin(&ledger, &update(&updated, OTHER)).await;
        assert!(matches!(again, Begun::Reused), "{again:?}");
        let again = reserved(begin(&ledger, &update(&updated, CALL)).await);
        again.applied(None).await;
        let third = begin(&ledger, &update(&updated, CALL)).await;
        assert!(matches!(third, Begun::Applied(None)), "{third:?}");
    }
}

/// A gateway that was killed never writes an outcome.
#[tokio::test]
async fn a_pending_write_reads_as_unknown_once_its_time_is_over() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    let now = || UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed));
    for place in places() {
        let (created, updated) = (fresh(), fresh());
        let ledger = place.open().with_clock(now);
        let left = reserved(begin(&ledger, &create(&created, CALL)).await);
        let late = reserved(begin(&ledger, &update(&updated, CALL)).await);
        NOW.fetch_add(60 + GRACE.as_secs() + 1, Ordering::Relaxed);

        let again = begin(&ledger, &create(&created, CALL)).await;
        assert!(matches!(again, Begun::Unknown(_)), "{again:?}");
        let taken_over = reserved(begin(&ledger, &update(&updated, CALL)).await);
        // It was only slow: what it says of a create is true, and of the update it is too late.
        left.applied(Some(b"late".to_vec())).await;
        late.free().await;
        let again = begin(&ledger, &create(&created, CALL)).await;
        assert!(matches!(again, Begun::Applied(Some(_))), "{again:?}");
        let again = begin(&ledger, &update(&updated, CALL)).await;
        assert!(matches!(again, Begun::UnderWay), "{again:?}");
        taken_over.unknown().await;
    }
}

#[tokio::test]
async fn a_reservation_that_is_dropped_ends_by_the_evidence() {
    for place in places() {
        let (id, ledger) = (fresh(), place.open());
        let (write, progress) = (create(&id, CALL), Progress::default());
        drop(reserved(begin_with(&ledger, &write, None, &progress).await));
        let freed = wait_for(&ledger, &write).await;
        let mut second = reserved(freed);
        second.progress = progress.clone();
        progress.sending();
        drop(second);
        let again = wait_for(&ledger, &write).await;
        assert!(matches!(again, Begun::Unknown(_)), "{again:?}");
    }
}

/// What becomes of a write that is under way.
async fn wait_for(ledger: &Ledger, write: &Write<'_>) -> Begun {
    let until = Instant::now() + Duration::from_secs(60);
    let progress = Progress::default();
    ledger
        .begin(write, None, &progress, (until, until))
        .await
        .unwrap()
}

#[tokio::test]
async fn one_of_many_gets_the_id() {
    for place in places() {
        let id = fresh();
        let replicas = [place.open(), place.open()];
        let mut racing = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (ledger, id) = (replicas[number % 2].clone(), id.clone());
            racing.spawn(async move {
                match wait_for(&ledger, &create(&id, CALL)).await {
                    Begun::Reserved(reservation) => {
                        reservation.applied(Some(b"the event".to_vec())).await;
                        true
                    }
                    Begun::Applied(Some(response)) => response != b"the event",
                    other => panic!("{other:?}"),
                }
            });
        }
        let sent = racing.join_all().await;
        assert_eq!(sent.iter().filter(|sent| **sent).count(), 1);
    }
}

#[tokio::test]
async fn a_person_settles_what_nobody_knows() {
    for place in places() {
        let ledger = place.open();
        let ids = [fresh(), fresh(), fresh()];
        for id in &ids[..2] {
            reserved(begin(&ledger, &create(id, CALL)).await)
                .unknown()
                .await;
        }
        let pending = reserved(begin(&ledger, &create(&ids[2], CALL)).await);
        let ours: HashSet<&str> = ids.iter().map(|id| &id[..8]).collect();
        let unknown = ledger.list(true).await.unwrap();
        let unknown: Vec<_> = unknown
            .iter()
            .filter(|entry| ours.contains(&*entry.id_begins))
            .collect();
        assert_eq!(unknown.len(), 2);
        assert_eq!(unknown[0].site, "site-b30ef3aa");
        let of = |id: &str| {
            unknown
                .iter()
                .find(|entry| id.starts_with(&entry.id_begins))
                .unwrap()
        };

        assert!(ledger.settle(of(&ids[0]), true).await.unwrap());
        assert!(ledger.settle(of(&ids[1]), false).await.unwrap());
        assert!(
            !ledger.settle(of(&ids[1]), false).await.unwrap(),
            "only once"
        );
        let again = begin(&ledger, &create(&ids[0], CALL)).await;
        assert!(matches!(again, Begun::Settled), "{again:?}");
        reserved(begin(&ledger, &create(&ids[1], CALL)).await)
            .free()
            .await;

        let all = ledger.list(false).await.unwrap();
        let pending_entry = all
            .iter()
            .find(|entry| ids[2].starts_with(&entry.id_begins))
            .unwrap();
        assert_eq!(pending_entry.state, State::Pending);
        assert!(
            !ledger.settle(pending_entry, true).await.unwrap(),
            "it is under way"
        );
        drop(pending);
    }
}

#[tokio::test]
async fn writes_are_forgotten_after_their_time() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let now = || UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed));
    let Place(location, _kept) = places().remove(0);
    let ledger = Ledger::new(&location).unwrap().with_clock(now);
    let id = fresh();
    reserved(begin(&ledger, &create(&id, CALL)).await)
        .unknown()
        .await;
    let counts = ledger.count().await.unwrap();
    assert_eq!(
        (counts.entries, counts.oldest_unknown),
        ([0, 0, 1, 0], Some(1_000_000_000))
    );

    NOW.fetch_add(3 * 24 * 3600 - 1, Ordering::Relaxed);
    assert_eq!(ledger.prune(3 * DAY).await.unwrap(), 0);
    NOW.fetch_add(2, Ordering::Relaxed);
    assert_eq!(ledger.prune(3 * DAY).await.unwrap(), 1);
    reserved(begin(&ledger, &create(&id, CALL)).await)
        .free()
        .await;
    assert_eq!(ledger.count().await.unwrap(), Counts::default());
}

#[tokio::test]
async fn a_write_without_a_call_left_for_it_has_no_row() {
    for place in places() {
        let (id, ledger) = (fresh(), place.open());
        let take = Take {
            account: seal::account(fresh().as_bytes()),
            day: 20_000,
            daily: 1,
            owed: 0,
        };
        let (write, progress) = (create(&id, CALL), Progress::default());
        let first = reserved(begin_with(&ledger, &write, Some(take), &progress).await);
        assert_eq!(first.counted().unwrap().1, 1);
        first.free().await;
        let second = begin_with(&ledger, &write, Some(take), &progress).await;
        assert!(matches!(second, Begun::QuotaSpent), "{second:?}");
        reserved(begin(&ledger, &write).await).free().await;
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_fails_in_time() {
    let nobody = Location::parse("postgres://nobody@127.0.0.1:1/none").unwrap();
    let ledger = Ledger::new(&nobody).unwrap();
    let id = fresh();
    let now = Instant::now();
    let (write, progress) = (create(&id, CALL), Progress::default());
    let begun = ledger.begin(&write, None, &progress, (now, now)).await;
    assert!(begun.is_err(), "{begun:?}");
}
