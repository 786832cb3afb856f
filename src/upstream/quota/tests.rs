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

#[tokio::test(start_paused = true)]
async fn a_spent_key_rests_but_for_probes() {
    let quota = Quota::new(None, true);
    let hour = Some(Duration::from_secs(3600));
    quota.answered(&key(1), StatusCode::TOO_MANY_REQUESTS, hour);
    assert_eq!(admit(&quota, 1), Err(3600));
    assert_eq!(admit(&quota, 2), Ok(()), "another key");

    advance(PROBE_EVERY).await;
    assert_eq!(admit(&quota, 1), Ok(()), "a probe");
    assert_eq!(admit(&quota, 1), Err(2700));

    quota.answered(&key(1), StatusCode::OK, None);
    assert_eq!(admit(&quota, 1), Ok(()));

    quota.answered(&key(1), StatusCode::TOO_MANY_REQUESTS, Some(LONGEST * 365));
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
