use std::sync::atomic::AtomicU64;

use http::HeaderValue;
use tokio::time::advance;

use super::*;
use crate::rest::KeyHolder;

fn key(id: u64) -> Key {
    Key {
        authorization: HeaderValue::from_static("Token x"),
        holder: KeyHolder::Gateway,
        id,
        name: "default".into(),
    }
}

fn admit(quota: &Quota, id: u64) -> Result<(), u64> {
    let progress = Progress::default();
    progress.sending();
    let admitted = quota.admit_alone(&key(id), None, &progress).map(drop);
    admitted.map_err(|error| error.retry_after.unwrap().as_secs())
}

const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;

/// A call that is answered at once.
fn answer(quota: &Quota, id: u64, status: StatusCode, retry_after: Option<Duration>) {
    let (key, progress) = (key(id), Progress::default());
    let counted = quota.admit_alone(&key, None, &progress).unwrap();
    counted.answered(status, retry_after);
}

#[tokio::test(start_paused = true)]
async fn only_a_success_sent_after_a_429_ends_a_spent_day() {
    let quota = Quota::new(None, true);
    let (key, progress) = (key(1), Progress::default());
    let under_way = || quota.admit_alone(&key, None, &progress).unwrap();
    let (failed, succeeded) = (under_way(), under_way());
    advance(Duration::from_secs(1)).await;
    answer(&quota, 1, TOO_MANY, Some(LONGEST));

    advance(Duration::from_secs(1)).await;
    failed.answered(StatusCode::INTERNAL_SERVER_ERROR, None);
    assert!(admit(&quota, 1).is_err(), "a failure that was under way");
    succeeded.answered(StatusCode::CREATED, None);
    assert!(admit(&quota, 1).is_err(), "a success that was under way");

    advance(PROBE_EVERY).await;
    answer(&quota, 1, StatusCode::SERVICE_UNAVAILABLE, None);
    assert!(admit(&quota, 1).is_err(), "a probe that failed");
    advance(PROBE_EVERY).await;
    answer(&quota, 1, StatusCode::CREATED, None);
    assert_eq!(admit(&quota, 1), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_spent_key_rests_but_for_probes() {
    let quota = Quota::new(None, true);
    let hour = Some(Duration::from_secs(3600));
    answer(&quota, 1, TOO_MANY, hour);
    assert_eq!(admit(&quota, 1), Err(3600));
    assert_eq!(admit(&quota, 2), Ok(()), "another key");

    advance(PROBE_EVERY).await;
    let (key, progress) = (key(1), Progress::default());
    let probe = quota.admit_alone(&key, None, &progress).unwrap();
    assert_eq!(admit(&quota, 1), Err(2700));

    probe.answered(StatusCode::OK, None);
    assert_eq!(admit(&quota, 1), Ok(()));

    answer(&quota, 1, TOO_MANY, Some(LONGEST * 365));
    assert_eq!(admit(&quota, 1), Err(LONGEST.as_secs()), "capped");
    advance(LONGEST).await;
    assert_eq!(admit(&quota, 1), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_day_has_so_many_calls() {
    let noon = || UNIX_EPOCH + Duration::from_secs(20_000 * DAY + DAY / 2);
    let quota = Quota {
        now: noon,
        ..Quota::new(Some(3), true)
    };
    assert_eq!([1, 1, 1].map(|id| admit(&quota, id)), [Ok(()); 3]);
    assert_eq!(admit(&quota, 1), Err(DAY / 2), "until midnight UTC");
    assert_eq!(admit(&quota, 2), Ok(()), "another key");
    assert_eq!(quota.left(&key(1)), Some(0));

    let quota = Quota {
        now: || UNIX_EPOCH + Duration::from_secs(20_001 * DAY),
        ..quota
    };
    assert_eq!(quota.left(&key(1)), Some(3), "before the day's first call");
    assert_eq!(admit(&quota, 1), Ok(()), "the next day");
}

/// Calls that ran out of time before there was a connection used the quota up.
#[tokio::test(start_paused = true)]
async fn a_call_that_never_left_is_not_counted() {
    let quota = Quota::new(Some(1), true);
    let (key, progress) = (key(1), Progress::default());
    let counted = quota.admit_alone(&key, None, &progress).unwrap();
    assert_eq!(quota.left(&key), Some(0));
    drop(counted);
    assert_eq!(quota.left(&key), Some(1));

    let counted = quota.admit_alone(&key, None, &progress).unwrap();
    progress.sending();
    drop(counted);
    assert_eq!(quota.left(&key), Some(0));
}

/// A call of yesterday's took one of today's with it.
#[tokio::test(start_paused = true)]
async fn a_call_that_never_left_is_given_back_to_its_day() {
    static DAYS: AtomicU64 = AtomicU64::new(20_000);
    let now = || UNIX_EPOCH + Duration::from_secs(DAYS.load(Ordering::Relaxed) * DAY);
    let quota = Quota {
        now,
        ..Quota::new(Some(3), true)
    };
    let (key, progress) = (key(1), Progress::default());
    let yesterdays = quota.admit_alone(&key, None, &progress).unwrap();
    DAYS.fetch_add(1, Ordering::Relaxed);
    admit(&quota, 1).unwrap();
    drop(yesterdays);
    assert_eq!(quota.left(&key), Some(2));
}

#[tokio::test(start_paused = true)]
async fn keys_are_bounded() {
    let quota = Quota::new(Some(1), true);
    for id in 0..20_000 {
        admit(&quota, id).unwrap();
    }
    assert_eq!(quota.keys().len(), MAX_KEYS);
}
