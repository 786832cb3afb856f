//! The circuit breaker: after failures in a row the gateway stops calling for a while, then lets one
//! call through to see.
//!
//! A failure is a connection that could not be made or was lost, and a 5xx other than 501, which is
//! about one call and says that the rest works. 503 counts: while the API is offline for maintenance,
//! calling it is of no use. Every other answer is a success, 4xx and 429 among them.
//!
//! A 503 says that OnboardFlow is offline for maintenance. It stops its site's calls at once, for its
//! `Retry-After` or else for as long as the breaker opens at first: whoever stands in front of the
//! gateway and repeats what it answered with UNAVAILABLE is answered by the gateway.
//!
//! Some 5xx are one site's own doing. So a run of them that is all one site's stops calls for that
//! site alone, and counts for no other; it takes a run over two sites, or a connection that can't be
//! made, to stop calls for all.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    config::BreakerConfig,
    telemetry::{BreakerState, UpstreamMetrics},
};

/// Sites that are remembered as stopped. Callers name theirs, and may name any.
const MAX_SITES: usize = 1000;
/// The longest that a 503 is taken at its word. After it, one call looks again.
const OFFLINE_AT_MOST: Duration = Duration::from_secs(15 * 60);

/// Shared by all workers.
#[derive(Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    hasher: RandomState,
    /// Whether there is anything in `state`: while all goes well, nobody takes the lock.
    troubled: AtomicBool,
    state: Mutex<State>,
    metrics: UpstreamMetrics,
}

#[derive(Debug, Default)]
struct State {
    run: Option<Run>,
    /// What is stopped: either all calls, or those of some sites.
    open: HashMap<Scope, Open>,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug)]
struct Run {
    failures: u32,
    scope: Scope,
}

/// Whose calls failures are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scope {
    Site(u64),
    All,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    until: Instant,
    lasts: Duration,
    cause: Cause,
    probing: bool,
}

/// Why calls are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// OnboardFlow kept failing.
    Failures,
    /// OnboardFlow said that it is offline.
    Offline,
}

/// Why there is no leave for a call, and after which time to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    pub(super) cause: Cause,
    pub(super) retry_after: Duration,
}

/// Leave to make an attempt. Dropped without a verdict, it says nothing of OnboardFlow.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    site: &'a str,
    /// What it is the probe of.
    probes: Option<Scope>,
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
    /// It said that it is offline for maintenance, and perhaps for how long.
    Offline(Option<Duration>),
}

impl Breaker {
    /// Without a configuration it never opens.
    pub(super) fn new(config: Option<BreakerConfig>, metrics: UpstreamMetrics) -> Self {
        let never = BreakerConfig {
            failures: u32::MAX,
            ..BreakerConfig::default()
        };
        Self {
            config: config.unwrap_or(never),
            hasher: RandomState::new(),
            troubled: AtomicBool::new(false),
            state: Mutex::default(),
            metrics,
        }
    }

    /// Leave to call for this site, or why there is none.
    pub(super) fn admit<'a>(&'a self, site: &'a str) -> Result<Permit<'a>, Stopped> {
        let permit = |probes| Permit {
            breaker: self,
            site,
            probes,
        };
        if !self.troubled.load(Ordering::Relaxed) {
            return Ok(permit(None));
        }
        let mut state = self.state();
        let Some((scope, open)) = state.covering(self.scope(site)) else {
            return Ok(permit(None));
        };
        let stopped = |retry_after| Stopped {
            cause: open.cause,
            retry_after,
        };
        let now = Instant::now();
        if now < open.until {
            return Err(stopped(open.until - now));
        }
        if open.probing {
            return Err(stopped(self.config.open_for));
        }
        open.probing = true;
        self.show(&state);
        Ok(permit(Some(scope)))
    }

    fn scope(&self, site: &str) -> Scope {
        Scope::Site(self.hasher.hash_one(site))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &State) {
        self.metrics.breaker(state.shown());
    }

    fn up(&self, site: &str) {
        if !self.troubled.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        state.run = None;
        // Late answers to calls from before it opened are good news too.
        if let Some((scope, _)) = state.covering(self.scope(site)) {
            state.open.remove(&scope);
            info!("the circuit breaker closes: OnboardFlow answers again");
        }
        state.forget_abandoned(self.config.open_at_most);
        self.show(&state);
        self.troubled
            .store(!state.open.is_empty(), Ordering::Relaxed);
    }

    fn down(&self, permit: &Permit<'_>, scope: Scope) {
        let mut state = self.state();
        self.troubled.store(true, Ordering::Relaxed);
        if let Some((stopped, open)) = state.covering(self.scope(permit.site)) {
            // Late failures of calls from before it opened say nothing new.
            if permit.probes == Some(stopped) {
                open.lasts = (open.lasts * 2).min(self.config.open_at_most);
                open.until = Instant::now() + open.lasts;
            }
            return;
        }
        state.forget_abandoned(self.config.open_at_most);
        let run = state.lengthen_run(scope);
        if run.failures >= self.config.failures
            && state.open(run.scope, self.config.open_for, Cause::Failures)
        {
            warn!(
                failures = run.failures,
                one_site = run.scope != Scope::All,
                "the circuit breaker opens: OnboardFlow keeps failing"
            );
        }
        self.show(&state);
    }
}

impl Breaker {
    /// OnboardFlow said that it is offline. Counted as a failure too: several sites that are told so
    /// stop calls for all.
    fn offline(&self, permit: &Permit<'_>, retry_after: Option<Duration>) {
        let site = self.scope(permit.site);
        self.down(permit, site);
        let lasts = retry_after.unwrap_or_default();
        let lasts = lasts.clamp(
            self.config.open_for,
            OFFLINE_AT_MOST.max(self.config.open_for),
        );
        let mut state = self.state();
        let until = Instant::now() + lasts;
        match state.covering(site) {
            // The longer of the two waits holds.
            Some((scope, open)) if scope == site => {
                open.until = open.until.max(until);
                open.cause = Cause::Offline;
            }
            Some(_) => {}
            None if self.never_opens() => {}
            None => {
                let run = state.run;
                if state.open(site, lasts, Cause::Offline) {
                    state.run = run;
                    let seconds = lasts.as_secs();
                    warn!(
                        seconds,
                        "OnboardFlow says that it is offline for maintenance"
                    );
                }
            }
        }
        self.show(&state);
    }

    fn never_opens(&self) -> bool {
        self.config.failures == u32::MAX
    }
}

impl State {
    /// What stops the calls of this site.
    fn covering(&mut self, site: Scope) -> Option<(Scope, &mut Open)> {
        let scope = if self.open.contains_key(&Scope::All) {
            Scope::All
        } else {
            site
        };
        self.open.get_mut(&scope).map(|open| (scope, open))
    }

    fn lengthen_run(&mut self, scope: Scope) -> Run {
        let run = match self.run {
            None => Run { failures: 1, scope },
            Some(run) => Run {
                failures: run.failures.saturating_add(1),
                scope: if run.scope == scope {
                    scope
                } else {
                    Scope::All
                },
            },
        };
        self.run = Some(run);
        run
    }

    /// Lets go of sites that nobody has called for a while since a call would have been let through.
    fn forget_abandoned(&mut self, after: Duration) {
        let now = Instant::now();
        self.open
            .retain(|scope, open| *scope == Scope::All || open.probing || now < open.until + after);
    }

    /// False where too many are open already.
    fn open(&mut self, scope: Scope, lasts: Duration, cause: Cause) -> bool {
        let now = Instant::now();
        self.run = None;
        if scope == Scope::All {
            self.open.clear();
        } else if self.open.len() >= MAX_SITES {
            self.open.retain(|_, open| now < open.until);
            if self.open.len() >= MAX_SITES {
                return false;
            }
        }
        let open = Open {
            until: now + lasts,
            lasts,
            cause,
            probing: false,
        };
        self.open.insert(scope, open);
        true
    }

    /// For the metric: `Open` where calls are refused, be they one site's.
    fn shown(&self) -> BreakerState {
        if self.open.values().any(|open| !open.probing) {
            BreakerState::Open
        } else if self.open.is_empty() {
            BreakerState::Closed
        } else {
            BreakerState::HalfOpen
        }
    }
}

impl Permit<'_> {
    /// Says what the attempt found.
    pub(super) fn found(self, health: Health) {
        match health {
            Health::Up => self.breaker.up(self.site),
            Health::Unreachable => self.breaker.down(&self, Scope::All),
            Health::Failing => self.breaker.down(&self, self.breaker.scope(self.site)),
            Health::Offline(retry_after) => self.breaker.offline(&self, retry_after),
        }
    }
}

/// The probe is over, also where it found nothing out: the next call is one.
impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let Some(scope) = self.probes else { return };
        let mut state = self.breaker.state();
        if let Some(open) = state.open.get_mut(&scope) {
            open.probing = false;
            self.breaker.show(&state);
        }
    }
}

#[cfg(test)]
mod tests;
