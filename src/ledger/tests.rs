//! The ledger on SQLite, and on the PostgreSQL that `LEDGER_TEST_POSTGRES` names.

use std::{collections::HashSet, env};

use sqlx::query;
use tempfile::TempDir;

use super::*;

mod orders;

const CALL: [&[u8]; 3] = [
    b"POST",
    b"/",
    br#"{"customer_email":"test@onboardflow.com"}"#,
];
const OTHER: [&[u8]; 3] = [b"POST", b"/", b"{}"];

/// A place for a ledger, and what it takes to keep it.
struct Place {
    location: Location,
    _directory: Option<TempDir>,
}

fn places() -> Vec<Place> {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let postgres = env::var("LEDGER_TEST_POSTGRES").ok();
    let directory = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}/l 100%.db", directory.path().display());
    let place = |location: &str, directory| Place {
        location: Location::parse(location).unwrap(),
        _directory: directory,
    };
    let postgres = postgres.map(|url| place(&url, None));
    [place(&file, Some(directory))]
        .into_iter()
        .chain(postgres)
        .collect()
}

impl Place {
    fn open(&self) -> Ledger {
        Ledger::new(&self.location, LedgerMetrics::default()).unwrap()
    }
}

/// An id that no other test has.
fn fresh() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn create<'a>(id: &'a str, call: [&'a [u8]; 3]) -> Write<'a> {
    Write {
        request_id: id.as_bytes(),
        id,
        site_key: "f37F2PPh",
        site: "site-b30ef3aa",
        method: "POST /",
        call,
        again: Again::Never,
    }
}

fn update<'a>(id: &'a str, call: [&'a [u8]; 3]) -> Write<'a> {
    Write {
        again: Again::IfUnknown,
        ..create(id, call)
    }
}

/// Lets so many seconds pass for one write, by the store's clock.
async fn let_pass(ledger: &Ledger, id: &str, seconds: u64) {
    let earlier = "UPDATE writes SET began = began - $1, until = until - $1 WHERE id_begins = $2";
    let earlier = query(earlier).bind(seconds.cast_signed() * 1000);
    let pool = &ledger.0.store.pool;
    earlier.bind(&id[..8]).execute(pool).await.unwrap();
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

fn reserved(begun: Begun) -> Box<Reservation> {
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
    for place in places() {
        let (created, updated) = (fresh(), fresh());
        let ledger = place.open();
        let left = reserved(begin(&ledger, &create(&created, CALL)).await);
        let late = reserved(begin(&ledger, &update(&updated, CALL)).await);
        for id in [&created, &updated] {
            let_pass(&ledger, id, 60 + GRACE.as_secs() + 1).await;
        }

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
        let of = |id: &str| *unknown.iter().find(|entry| entry.is_named(id)).unwrap();

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
        let pending_entry = all.iter().find(|entry| entry.is_named(&ids[2])).unwrap();
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
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let place = places().remove(0);
    let (id, ledger) = (fresh(), place.open());
    reserved(begin(&ledger, &create(&id, CALL)).await)
        .unknown()
        .await;
    let_pass(&ledger, &id, 3 * 24 * 3600 - 3600).await;
    let counts = ledger.count().await.unwrap();
    assert_eq!(counts.entries, [0, 0, 1, 0]);
    assert!(counts.oldest_unknown > Some(2 * 24 * 3600 * 1000));

    assert_eq!(ledger.prune(3 * DAY).await.unwrap(), 0);
    let_pass(&ledger, &id, 3601).await;
    assert_eq!(ledger.prune(3 * DAY).await.unwrap(), 1);
    reserved(begin(&ledger, &create(&id, CALL)).await)
        .free()
        .await;
    assert_eq!(ledger.count().await.unwrap(), Counts::default());
}

#[tokio::test]
async fn a_name_that_is_used_anew_forgets_what_was_known_of_it() {
    for place in places() {
        let (id, ledger) = (fresh(), place.open());
        let anew = Write {
            again: Again::Always,
            ..create(&id, CALL)
        };
        let first = reserved(begin(&ledger, &anew).await);
        let second = reserved(begin(&ledger, &anew).await);
        // It is no longer the first one's.
        first.applied(None).await;
        let again = begin(&ledger, &create(&id, CALL)).await;
        assert!(matches!(again, Begun::UnderWay), "{again:?}");
        second.unknown().await;
        reserved(begin(&ledger, &anew).await).free().await;
    }
}

/// An account that no other test has.
fn account(daily: u64) -> Asked {
    Asked {
        account: Ledger::account(&[fresh().as_bytes()]),
        daily,
    }
}

#[tokio::test]
async fn a_write_without_a_call_left_for_it_has_no_row() {
    for place in places() {
        let (id, ledger) = (fresh(), place.open());
        let (all, own) = (account(2), account(1));
        let day = Take { all, own: None };
        let shared = Take {
            all,
            own: Some(own),
        };
        let (write, progress) = (create(&id, CALL), Progress::default());
        let refused = async |take| {
            let begun = begin_with(&ledger, &write, Some(take), &progress).await;
            match begun {
                Begun::QuotaSpent(spent) => spent,
                other => panic!("{other:?}"),
            }
        };
        let first = reserved(begin_with(&ledger, &write, Some(shared), &progress).await);
        let taken = first.taken().unwrap();
        assert_eq!((taken.counts.own, taken.counts.all), (1, 1));
        first.free().await;
        assert_eq!(refused(shared).await, Spent::Share);
        let second = ledger.take(day).await.unwrap().unwrap();
        assert_eq!((second.counts.own, second.counts.all), (0, 2));
        assert_eq!(refused(day).await, Spent::Day);
        let all = account(0);
        let nothing = Take { all, own: None };
        assert_eq!(refused(nothing).await, Spent::Day);
        reserved(begin(&ledger, &write).await).free().await;

        // What is given back is given back to both.
        ledger.give_back(taken);
        ledger.0.work.close();
        ledger.0.work.wait().await;
        ledger.0.work.reopen();
        let third = ledger.take(shared).await.unwrap().unwrap();
        assert_eq!((third.counts.own, third.counts.all), (1, 2));
    }
}

/// A commit whose answer was lost.
#[tokio::test]
async fn a_reservation_that_may_not_have_been_made_is_undone() {
    for place in places() {
        let (id, ledger) = (fresh(), place.open());
        let all = account(1);
        let take = Take { all, own: None };
        let (write, progress) = (create(&id, CALL), Progress::default());
        let mut lost = reserved(begin_with(&ledger, &write, Some(take), &progress).await);
        (lost.asked, lost.taken) = (lost.taken.map(|taken| taken.take), None);
        drop(lost);
        reserved(wait_for(&ledger, &write).await).free().await;
        assert!(
            ledger.take(take).await.unwrap().is_ok(),
            "it was given back"
        );
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_fails_in_time() {
    let nobody = Location::parse("postgres://nobody@127.0.0.1:1/none").unwrap();
    let ledger = Ledger::new(&nobody, LedgerMetrics::default()).unwrap();
    let id = fresh();
    let now = Instant::now();
    let (write, progress) = (create(&id, CALL), Progress::default());
    let begun = ledger.begin(&write, None, &progress, (now, now)).await;
    assert!(begun.is_err(), "{begun:?}");
}
