//! When the next call may go out: within the day's budget, the rate, and what the gateway asks to wait. Sends
//! nothing, and counts calls without knowing their rows.

use std::{
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use super::client::Spent;

const DAY: u64 = 24 * 60 * 60;
/// Longest sleep before the clock is looked at again: it may be set, and a laptop may sleep.
const NAP: Duration = Duration::from_secs(60);

/// A day in UTC, counted from 1970 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(u64);

impl Day {
    fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(since.as_secs() / DAY)
    }
}

/// Holds calls back.
#[derive(Debug)]
pub(super) struct Pace {
    budget: Option<u64>,
    /// Time between calls.
    interval: Duration,
    now: fn() -> SystemTime,
    state: Mutex<State>,
    /// A call was given back.
    given_back: Notify,
}

#[derive(Debug)]
struct State {
    /// The day that is counted. A clock that is set back makes no new one.
    day: Day,
    used: u64,
    /// When the rate lets the next call out.
    next: Instant,
    /// Until when nothing goes out, and why.
    held: (Instant, String),
}

/// What keeps calls back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) lasts: Duration,
    pub(super) why: String,
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
                day: Day(0),
                used: 0,
                next: Instant::now(),
                held: (Instant::now(), String::new()),
            }),
            given_back: Notify::new(),
        }
    }

    /// Ready when a call may go out, which is counted on this day then.
    pub(super) async fn admit(&self) -> Day {
        loop {
            let mut given_back = pin!(self.given_back.notified());
            given_back.as_mut().enable();
            match self.try_admit() {
                Ok((day, at)) => {
                    sleep_until(at).await;
                    return day;
                }
                Err(wait) => drop(timeout(wait.min(NAP), given_back).await),
            }
        }
    }

    /// The time at which a call may go out, or how long to wait before asking again.
    fn try_admit(&self) -> Result<(Day, Instant), Duration> {
        let now = Instant::now();
        let today = self.today();
        let mut state = self.lock();
        if state.held.0 > now {
            return Err(state.held.0 - now);
        }
        if state.day < today {
            (state.day, state.used) = (today, 0);
        }
        if self.budget.is_some_and(|budget| state.used >= budget) {
            return Err(self.left_of_day());
        }
        state.used += 1;
        let at = state.next.max(now);
        state.next = at + self.interval;
        Ok((state.day, at))
    }

    /// Gives a call back that took none of OnboardFlow's on the day that it was counted on.
    pub(super) fn settle(&self, counted: Day, spent: Spent) {
        let is_spent = match spent {
            Spent::Now => true,
            Spent::Before(time) => Day::of(time) == counted,
            Spent::Nothing => false,
        };
        let mut state = self.lock();
        if !is_spent && state.day == counted {
            state.used -= 1;
            self.given_back.notify_waiters();
        }
    }

    /// Lets nothing out for this long.
    pub(super) fn hold(&self, wait: Duration, why: String) {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        if state.held.0 < until {
            state.held = (until, why);
        }
    }

    /// What is left of today's budget.
    pub(super) fn left(&self) -> Option<u64> {
        let today = self.today();
        let state = self.lock();
        let used = if state.day < today { 0 } else { state.used };
        self.budget.map(|budget| budget.saturating_sub(used))
    }

    /// What keeps calls back now.
    pub(super) fn wait(&self) -> Option<Wait> {
        let (until, why) = self.lock().held.clone();
        let lasts = until.saturating_duration_since(Instant::now());
        if !lasts.is_zero() {
            return Some(Wait { lasts, why });
        }
        (self.left() == Some(0)).then(|| Wait {
            lasts: self.left_of_day(),
            why: "today's budget is used up".to_owned(),
        })
    }

    /// When this many rows will be done, if that isn't today. None without a budget.
    pub(super) fn done_at(&self, rows: u64) -> Option<SystemTime> {
        let budget = self.budget?;
        let later = rows.saturating_sub(self.left()?);
        let days = later.checked_sub(1)? / budget;
        Some(self.now_and(self.left_of_day()) + Duration::from_secs(days * DAY))
    }

    /// The time after this one.
    pub(super) fn now_and(&self, duration: Duration) -> SystemTime {
        (self.now)() + duration
    }

    fn today(&self) -> Day {
        Day::of((self.now)())
    }

    fn left_of_day(&self) -> Duration {
        let since = (self.now)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let tomorrow = Duration::from_secs((since.as_secs() / DAY + 1) * DAY);
        tomorrow.saturating_sub(since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static START: Instant = Instant::now();
        static JUMPED: Cell<i64> = const { Cell::new(0) };
    }

    /// 2024-02-28 22:13:20 UTC, and what tokio's clock has moved on since, and the jumps.
    fn now() -> SystemTime {
        let start = UNIX_EPOCH + Duration::from_secs(1_709_158_400) + START.with(Instant::elapsed);
        let jumped = Duration::from_secs(JUMPED.get().unsigned_abs());
        if JUMPED.get() < 0 {
            start - jumped
        } else {
            start + jumped
        }
    }

    fn jump(seconds: i64) {
        JUMPED.set(JUMPED.get() + seconds);
    }

    /// Runs until the budget holds calls back, and counts them.
    async fn until_held(pace: &Pace) -> u64 {
        let mut admitted = 0;
        while pace.wait().is_none() {
            let day = pace.admit().await;
            pace.settle(day, Spent::Now);
            admitted += 1;
        }
        admitted
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_of_1000_takes_ten_days_for_10000_rows() {
        let pace = Pace::with_clock(Some(1000), None, now);
        let (first, start) = (Day::of(now()).0, now());
        let nine_midnights = Duration::from_secs((first + 9) * DAY);
        assert_eq!(pace.done_at(10_000), Some(UNIX_EPOCH + nine_midnights));
        let mut days = vec![0; 10];
        for row in 1..=10_000 {
            let day = pace.admit().await;
            pace.settle(day, Spent::Now);
            assert_eq!(day, Day::of(now()), "counted on another day than it is");
            days[usize::try_from(day.0 - first).unwrap()] += 1;
            match row {
                // On every second day the clock jumps over what is left of it.
                _ if row % 2000 == 0 => jump(pace.left_of_day().as_secs().cast_signed() + 1),
                // Within a day it jumps to and fro, which makes no new day.
                _ if row % 2000 == 1500 => jump(5000),
                _ if row % 2000 == 1600 => jump(-5000),
                _ => {}
            }
        }
        assert_eq!(days, [1000; 10]);
        assert!(now().duration_since(start).unwrap() < Duration::from_secs(10 * DAY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_over_midnight_gives_no_second_budget() {
        let pace = Pace::with_clock(Some(10), None, now);
        jump(7200);
        assert_eq!(until_held(&pace).await, 10);
        jump(-7200);
        assert_eq!(until_held(&pace).await, 0);
        jump(7200);
        assert_eq!(until_held(&pace).await, 0);
        jump(DAY.cast_signed());
        assert_eq!(until_held(&pace).await, 10);
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
        jump(DAY.cast_signed());
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
        pace.hold(Duration::from_secs(3600), "offline".to_owned());
        pace.hold(Duration::from_secs(5), "shorter".to_owned());
        assert_eq!(pace.wait().unwrap().why, "offline");
        pace.admit().await;
        assert!(start.elapsed() >= Duration::from_secs(3600));
        assert_eq!(pace.wait(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_counts_on_the_day_of_its_first_attempt() {
        let pace = Pace::with_clock(Some(1), None, now);
        let yesterday = now() - Duration::from_secs(DAY);
        for spent in [Spent::Nothing, Spent::Before(yesterday)] {
            let today = pace.admit().await;
            pace.settle(today, spent);
            assert_eq!(pace.left(), Some(1), "{spent:?}");
        }
        let today = pace.admit().await;
        pace.settle(today, Spent::Before(now()));
        assert_eq!(pace.left(), Some(0));
        // What comes back after midnight is not of the new day.
        jump(DAY.cast_signed());
        let tomorrow = pace.admit().await;
        pace.settle(today, Spent::Nothing);
        assert_eq!((pace.left(), tomorrow > today), (Some(0), true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_given_back_ends_the_wait_for_midnight() {
        let pace = std::sync::Arc::new(Pace::with_clock(Some(1), None, now));
        let day = pace.admit().await;
        let waits = std::sync::Arc::clone(&pace);
        let waiting = tokio::spawn(async move { waits.admit().await });
        tokio::task::yield_now().await;
        let start = Instant::now();
        pace.settle(day, Spent::Nothing);
        waiting.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
