use std::sync::atomic::AtomicU64;

use http::HeaderValue;
use tokio::time::advance;

use super::*;
use crate::{
    config::{AuthScheme, Credentials},
    rest::KeyHolder,
};

const HOUR: Duration = Duration::from_secs(3600);

fn counting(daily: Option<u64>) -> Quota {
    let credentials = Credentials::Gateway {
        token: "x".into(),
        scheme: AuthScheme::Token,
    };
    let config = UpstreamConfig::new("http://localhost".parse().unwrap(), credentials);
    let config = UpstreamConfig {
        daily_quota: daily,
        ..config
    };
    Quota::new(&config, None)
}

/// The same, with this clock.
fn quota_at(now: fn() -> SystemTime, daily: Option<u64>) -> Quota {
    Quota {
        now,
        counter: Arc::new(Alone::new(now)),
        ..counting(daily)
    }
}

fn key(id: u64) -> Key {
    Key {
        authorization: HeaderValue::from_str(&format!("Token {id}")).unwrap(),
        holder: KeyHolder::Gateway,
        name: "default".into(),
    }
}

async fn admit(quota: &Quota, id: u64) -> Result<(), u64> {
    let progress = Progress::default();
    progress.sending();
    let admitted = quota.admit(&key(id), None, &progress).await.map(drop);
    admitted.map_err(|error| error.retry_after.unwrap().as_secs())
}

const TOO_MANY: StatusCode = StatusCode::TOO_MANY_REQUESTS;

/// A call that is answered at once.
async fn answer(quota: &Quota, id: u64, status: StatusCode, retry_after: Option<Duration>) {
    let (key, progress) = (key(id), Progress::default());
    let counted = quota.admit(&key, None, &progress).await.unwrap();
    counted.answered(status, retry_after);
}

#[tokio::test(start_paused = true)]
async fn only_a_success_sent_after_a_429_ends_a_spent_day() {
    let quota = counting(None);
    let (key, progress) = (key(1), Progress::default());
    let failed = quota.admit(&key, None, &progress).await.unwrap();
    let succeeded = quota.admit(&key, None, &progress).await.unwrap();
    advance(Duration::from_secs(1)).await;
    answer(&quota, 1, TOO_MANY, Some(24 * HOUR)).await;

    advance(Duration::from_secs(1)).await;
    failed.answered(StatusCode::INTERNAL_SERVER_ERROR, None);
    assert!(
        admit(&quota, 1).await.is_err(),
        "a failure that was under way"
    );
    succeeded.answered(StatusCode::CREATED, None);
    assert!(
        admit(&quota, 1).await.is_err(),
        "a success that was under way"
    );

    advance(HOUR / 4).await;
    answer(&quota, 1, StatusCode::SERVICE_UNAVAILABLE, None).await;
    assert!(admit(&quota, 1).await.is_err(), "a probe that failed");
    advance(HOUR / 4).await;
    answer(&quota, 1, StatusCode::CREATED, None).await;
    assert_eq!(admit(&quota, 1).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_spent_key_rests_but_for_probes() {
    let quota = counting(None);
    answer(&quota, 1, TOO_MANY, Some(HOUR)).await;
    assert_eq!(admit(&quota, 1).await, Err(3600));
    assert_eq!(admit(&quota, 2).await, Ok(()), "another key");

    advance(HOUR / 4).await;
    let (key, progress) = (key(1), Progress::default());
    let probe = quota.admit(&key, None, &progress).await.unwrap();
    assert_eq!(admit(&quota, 1).await, Err(2700));

    probe.answered(StatusCode::OK, None);
    assert_eq!(admit(&quota, 1).await, Ok(()));

    answer(&quota, 1, TOO_MANY, Some(24 * HOUR * 365)).await;
    assert_eq!(admit(&quota, 1).await, Err(24 * 3600), "capped");
    advance(24 * HOUR).await;
    assert_eq!(admit(&quota, 1).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_day_has_so_many_calls() {
    static NOW: AtomicU64 = AtomicU64::new(20_000 * DAY + DAY / 2);
    let now = || UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed));
    let quota = quota_at(now, Some(3));
    for _ in 0..3 {
        assert_eq!(admit(&quota, 1).await, Ok(()));
    }
    assert_eq!(admit(&quota, 1).await, Err(DAY / 2), "until midnight UTC");
    assert_eq!(admit(&quota, 2).await, Ok(()), "another key");
    assert_eq!(quota.left(&key(1)), Some(0));

    NOW.fetch_add(DAY / 2, Ordering::Relaxed);
    assert_eq!(quota.left(&key(1)), Some(3), "before the day's first call");
    assert_eq!(admit(&quota, 1).await, Ok(()), "the next day");
}

/// Calls that ran out of time before there was a connection used the quota up.
#[tokio::test(start_paused = true)]
async fn a_call_that_never_left_is_not_counted() {
    let quota = counting(Some(1));
    let (key, progress) = (key(1), Progress::default());
    let counted = quota.admit(&key, None, &progress).await.unwrap();
    assert_eq!(quota.left(&key), Some(0));
    drop(counted);
    assert_eq!(quota.left(&key), Some(1));

    let counted = quota.admit(&key, None, &progress).await.unwrap();
    progress.sending();
    drop(counted);
    assert_eq!(quota.left(&key), Some(0));
}

/// A call of yesterday's took one of today's with it.
#[tokio::test(start_paused = true)]
async fn a_call_that_never_left_is_given_back_to_its_day() {
    static DAYS: AtomicU64 = AtomicU64::new(20_000);
    let now = || UNIX_EPOCH + Duration::from_secs(DAYS.load(Ordering::Relaxed) * DAY);
    let quota = quota_at(now, Some(3));
    let (key, progress) = (key(1), Progress::default());
    let yesterdays = quota.admit(&key, None, &progress).await.unwrap();
    DAYS.fetch_add(1, Ordering::Relaxed);
    admit(&quota, 1).await.unwrap();
    drop(yesterdays);
    assert_eq!(quota.left(&key), Some(2));
}

#[tokio::test(start_paused = true)]
async fn keys_are_bounded() {
    let quota = counting(Some(1));
    for id in 0..30_000 {
        admit(&quota, id).await.unwrap();
    }
    let counted = (0..30_000).filter(|id| quota.left(&key(*id)) == Some(0));
    assert_eq!(counted.count(), 20_000);
    for id in 0..20_000 {
        quota.refused.note(&key(id), HOUR);
    }
    let refused = (0..20_000).filter(|id| !quota.refused.left(&account_of(&key(*id))).is_zero());
    assert_eq!(refused.count(), 10_000);
}

#[test]
fn the_own_share_is_a_cap_and_the_day_is_one_too() {
    let alone = Alone::new(|| UNIX_EPOCH);
    let asked = |name: &str, daily| Asked {
        account: Ledger::account(&[name.as_bytes()]),
        daily,
    };
    let take = |own, daily| {
        let all = asked("all", 4);
        let own = Some(asked(own, daily));
        let taken = alone.count(Take { all, own });
        taken.map(|taken| {
            let counts = taken.unwrap().counts;
            (counts.own, counts.all)
        })
    };
    assert_eq!(take("a", 2), Ok((1, 1)));
    assert_eq!(take("a", 2), Ok((2, 2)));
    assert_eq!(take("a", 2), Err(Spent::Share));
    assert_eq!(take("none", 0), Err(Spent::Share));
    assert_eq!(take("b", 3), Ok((1, 3)));
    assert_eq!(take("b", 3), Ok((2, 4)));
    // The shares were others when the day began.
    assert_eq!(take("b", 3), Err(Spent::Day));
}
