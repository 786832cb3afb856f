//! The circuit breaker: after failures in a row the gateway stops calling for a while, then lets one
//! call through to see.
//!
//! A failure is a connection that could not be made or was lost, and a 5xx other than 501, which is
//! about one call and says that the rest works. 503 counts: while the API is offline for maintenance,
//! calling it is of no use. Every other answer is a success, 4xx and 429 among them.
//!
//! Some 5xx are one site's own doing. So a run of them that is all one site's stops calls for that
//! site alone; it takes two sites, or a connection that can't be made, to stop calls for all.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::observer::{BreakerState, Observer};

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open at first. It doubles with each probe that fails.
    pub open_for: Duration,
    /// The longest that it stays open at a time.
    pub open_at_most: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 10,
            open_for: Duration::from_secs(1),
            open_at_most: Duration::from_secs(30),
        }
    }
}

/// Shared by all workers.
#[derive(Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    hasher: RandomState,
    /// Whether there is anything in `state`: while all goes well, nobody takes the lock.
    troubled: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    scope: Option<Scope>,
    open: Option<Open>,
}

/// Whose calls a run of failures is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Site(u64),
    All,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    scope: Scope,
    until: Instant,
    lasts: Duration,
    probing: bool,
}

/// Leave to make an attempt. Dropped without a verdict, it says nothing of OnboardFlow.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    site: &'a str,
    is_probe: bool,
    observer: &'a dyn Observer,
}

/// What an attempt says of OnboardFlow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers.
    Up,
    /// It could not be connected to.
    Unreachable,
    /// It lost the connection, or answered with a failure of its own.
    Failing,
}

impl Breaker {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self {
            config,
            hasher: RandomState::new(),
            troubled: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Leave to call for this site, or the time after which to ask again.
    pub(super) fn admit<'a>(
        &'a self,
        site: &'a str,
        observer: &'a dyn Observer,
    ) -> Result<Permit<'a>, Duration> {
        let permit = |is_probe| Permit {
            breaker: self,
            site,
            is_probe,
            observer,
        };
        if !self.troubled.load(Ordering::Relaxed) {
            return Ok(permit(false));
        }
        let mut state = self.state();
        let Some(open) = state.open.as_mut().filter(|open| self.covers(open, site)) else {
            return Ok(permit(false));
        };
        let now = Instant::now();
        if now < open.until {
            return Err(open.until - now);
        }
        if open.probing {
            return Err(self.config.open_for);
        }
        open.probing = true;
        drop(state);
        observer.breaker(BreakerState::HalfOpen);
        Ok(permit(true))
    }

    fn covers(&self, open: &Open, site: &str) -> bool {
        match open.scope {
            Scope::All => true,
            Scope::Site(hash) => hash == self.hasher.hash_one(site),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn up(&self, site: &str, observer: &dyn Observer) {
        if !self.troubled.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        state.failures = 0;
        state.scope = None;
        // Late answers to calls from before it opened are good news too.
        if state.open.is_some_and(|open| self.covers(&open, site)) {
            state.open = None;
            info!("the circuit breaker closes: OnboardFlow answers again");
            observer.breaker(BreakerState::Closed);
        }
        self.troubled.store(state.open.is_some(), Ordering::Relaxed);
    }

    fn down(&self, permit: &Permit<'_>, scope: Scope) {
        let mut state = self.state();
        self.troubled.store(true, Ordering::Relaxed);
        let now = Instant::now();
        if let Some(open) = state.open.as_mut().filter(|_| permit.is_probe) {
            open.lasts = (open.lasts * 2).min(self.config.open_at_most);
            open.until = now + open.lasts;
            open.probing = false;
            permit.observer.breaker(BreakerState::Open);
            return;
        }
        state.failures += 1;
        let run = match state.scope {
            Some(of_run) if of_run != scope => Scope::All,
            Some(_) | None => scope,
        };
        state.scope = Some(run);
        let is_wider = state
            .open
            .is_none_or(|open| open.scope != Scope::All && open.scope != run);
        if state.failures >= self.config.failures && is_wider {
            let lasts = self.config.open_for;
            state.open = Some(Open {
                scope: run,
                until: now + lasts,
                lasts,
                probing: false,
            });
            warn!(
                failures = state.failures,
                one_site = run != Scope::All,
                "the circuit breaker opens: OnboardFlow keeps failing"
            );
            permit.observer.breaker(BreakerState::Open);
        }
    }
}

impl Permit<'_> {
    /// Says what the attempt found.
    pub(super) fn found(mut self, health: Health) {
        match health {
            Health::Up => self.breaker.up(self.site, self.observer),
            Health::Unreachable => self.breaker.down(&self, Scope::All),
            Health::Failing => {
                let site = self.breaker.hasher.hash_one(self.site);
                self.breaker.down(&self, Scope::Site(site));
            }
        }
        self.is_probe = false;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe
            && let Some(open) = &mut self.breaker.state().open
        {
            open.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::upstream::observer::Unobserved;

    fn breaker() -> Breaker {
        Breaker::new(BreakerConfig {
            failures: 3,
            ..BreakerConfig::default()
        })
    }

    fn find(breaker: &Breaker, site: &str, health: Health) {
        breaker.admit(site, &Unobserved).unwrap().found(health);
    }

    fn is_open(breaker: &Breaker, site: &str) -> bool {
        breaker.admit(site, &Unobserved).is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn opens_probes_and_closes() {
        let breaker = breaker();
        find(&breaker, "a", Health::Unreachable);
        find(&breaker, "a", Health::Unreachable);
        assert!(!is_open(&breaker, "a"));
        find(&breaker, "a", Health::Unreachable);
        assert_eq!(
            breaker.admit("b", &Unobserved).unwrap_err(),
            Duration::from_secs(1)
        );

        advance(Duration::from_secs(1)).await;
        let probe = breaker.admit("b", &Unobserved).unwrap();
        assert!(is_open(&breaker, "a"), "one probe at a time");
        probe.found(Health::Failing);
        assert_eq!(
            breaker.admit("a", &Unobserved).unwrap_err(),
            Duration::from_secs(2)
        );

        advance(Duration::from_secs(2)).await;
        drop(breaker.admit("a", &Unobserved).unwrap());
        find(&breaker, "a", Health::Up);
        assert!(!is_open(&breaker, "a"));
        assert!(!breaker.troubled.load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn one_site_stops_itself_alone() {
        let breaker = breaker();
        for _ in 0..3 {
            find(&breaker, "a", Health::Failing);
        }
        assert!(is_open(&breaker, "a"));
        find(&breaker, "b", Health::Up);
        assert!(is_open(&breaker, "a"), "b's success is not a's");
        for site in ["b", "c", "b"] {
            assert!(!is_open(&breaker, "d"));
            find(&breaker, site, Health::Failing);
        }
        assert!(
            is_open(&breaker, "d"),
            "two sites' failures stop calls for all"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_ends_a_run() {
        let breaker = breaker();
        for _ in 0..10 {
            find(&breaker, "a", Health::Failing);
            find(&breaker, "a", Health::Failing);
            find(&breaker, "b", Health::Up);
        }
        assert!(!is_open(&breaker, "a"));
    }
}
