//! When the next call may go out: within the day's budget, the rate, and what the gateway asks to wait.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::{Instant, sleep, sleep_until};

const DAY: u64 = 24 * 60 * 60;
/// Longest sleep before the clock is looked at again: it may be set, and a laptop may sleep.
const NAP: Duration = Duration::from_secs(60);

/// Holds calls back.
#[derive(Debug)]
pub(super) struct Pace {
    budget: Option<u64>,
    /// Time between calls.
    interval: Duration,
    now: fn() -> SystemTime,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The day that is counted, from 1970 on, in UTC.
    day: u64,
    used: u64,
    /// When the rate lets the next call out.
    next: Instant,
    /// Until when nothing goes out.
    held: Instant,
}

impl Pace {
    pub(super) fn new(budget: Option<u64>, rate: Option<u32>) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "days are the wall clock's; tests bring their own"
        )]
        let now = SystemTime::now;
        Self::with_clock(budget, rate, now)
    }

    fn with_clock(budget: Option<u64>, rate: Option<u32>, now: fn() -> SystemTime) -> Self {
        Self {
            budget,
            interval: rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate),
            now,
            state: Mutex::new(State {
                day: 0,
                used: 0,
                next: Instant::now(),
                held: Instant::now(),
            }),
        }
    }

    /// Ready when a call may go out, which is counted then.
    pub(super) async fn admit(&self) {
        loop {
            let wait = match self.try_admit() {
                Ok(at) => return sleep_until(at).await,
                Err(wait) => wait,
            };
            sleep(wait.min(NAP)).await;
        }
    }

    /// The time at which a call may go out, or how long to wait before asking again.
    fn try_admit(&self) -> Result<Instant, Duration> {
        let now = Instant::now();
        let (day, left_of_day) = self.day();
        let mut state = self.lock();
        if state.held > now {
            return Err(state.held - now);
        }
        if state.day != day {
            (state.day, state.used) = (day, 0);
        }
        if self.budget.is_some_and(|budget| state.used >= budget) {
            return Err(left_of_day);
        }
        state.used += 1;
        let at = state.next.max(now);
        state.next = at + self.interval;
        Ok(at)
    }

    /// Takes a call back that spent nothing of OnboardFlow's quota.
    pub(super) fn refund(&self) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(1);
    }

    /// Lets nothing out for this long.
    pub(super) fn hold(&self, wait: Duration) {
        let mut state = self.lock();
        state.held = state.held.max(Instant::now() + wait);
    }

    /// What is left of today's budget, and how long nothing goes out.
    pub(super) fn left(&self) -> (Option<u64>, Duration) {
        let (day, left_of_day) = self.day();
        let state = self.lock();
        let used = if state.day == day { state.used } else { 0 };
        let left = self.budget.map(|budget| budget.saturating_sub(used));
        let held = state.held.saturating_duration_since(Instant::now());
        let wait = if left == Some(0) {
            held.max(left_of_day)
        } else {
            held
        };
        (left, wait)
    }

    /// When this many rows will be done, where there is a budget.
    pub(super) fn done_at(&self, rows: u64) -> Option<SystemTime> {
        let budget = self.budget?;
        let (left, _) = self.left();
        let later = rows.saturating_sub(left?);
        if later == 0 {
            return None;
        }
        let midnight = (self.now)() + self.day().1;
        Some(midnight + Duration::from_secs((later - 1) / budget * DAY))
    }

    /// Today, and what is left of it.
    fn day(&self) -> (u64, Duration) {
        let since = (self.now)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let day = since.as_secs() / DAY;
        let tomorrow = Duration::from_secs((day + 1) * DAY);
        (day, tomorrow.saturating_sub(since))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap};

    use super::*;

    thread_local! {
        static START: Instant = Instant::now();
        static JUMPED: Cell<u64> = const { Cell::new(0) };
    }

    /// 2024-02-28 22:13:20 UTC, and what tokio's clock has moved on since, and the jumps.
    fn now() -> SystemTime {
        let jumped = Duration::from_secs(JUMPED.get());
        UNIX_EPOCH + Duration::from_secs(1_709_158_400) + START.with(Instant::elapsed) + jumped
    }

    fn today() -> u64 {
        now().duration_since(UNIX_EPOCH).unwrap().as_secs() / DAY
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_of_1000_takes_ten_days_for_10000_rows() {
        let pace = Pace::with_clock(Some(1000), None, now);
        assert_eq!(
            pace.done_at(10_000)
                .unwrap()
                .duration_since(now())
                .unwrap()
                .as_secs()
                / DAY,
            8
        );
        let mut days = BTreeMap::new();
        for row in 0..10_000 {
            pace.admit().await;
            *days.entry(today()).or_insert(0) += 1;
            if row == 3500 {
                // In the middle of a day the clock is put on by two: their budgets are lost, no more.
                JUMPED.set(2 * DAY);
            }
        }
        let counts: Vec<_> = days.values().copied().collect();
        assert_eq!(counts.iter().sum::<u32>(), 10_000);
        assert!(counts.iter().all(|count| *count <= 1000), "{days:?}");
        // 501 before the jump, and a whole budget after it.
        assert_eq!(counts[3], 501);
        assert_eq!(counts[4], 1000);
        assert_eq!(days.len(), 11);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_over_midnight_ends_the_wait() {
        let pace = Pace::with_clock(Some(1), None, now);
        pace.admit().await;
        let waiting = tokio::spawn(async move {
            pace.admit().await;
            Instant::now()
        });
        tokio::task::yield_now().await;
        let jumped_at = Instant::now();
        JUMPED.set(DAY);
        assert!(waiting.await.unwrap() - jumped_at <= NAP);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_and_a_hold_space_the_calls() {
        let pace = Pace::with_clock(None, Some(10), now);
        let start = Instant::now();
        for _ in 0..11 {
            pace.admit().await;
        }
        assert_eq!(start.elapsed().as_millis(), 1000);
        pace.hold(Duration::from_secs(3600));
        pace.admit().await;
        assert!(start.elapsed() >= Duration::from_secs(3600));
    }

    #[tokio::test(start_paused = true)]
    async fn what_spent_nothing_is_given_back() {
        let pace = Pace::with_clock(Some(1), None, now);
        for _ in 0..5 {
            pace.admit().await;
            pace.refund();
        }
        assert_eq!(pace.left().0, Some(1));
    }
}
