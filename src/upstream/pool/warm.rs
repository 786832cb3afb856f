//! Keeps `--warm-connections` ready, so that no call pays for a handshake.
//!
//! The largest plan allows one call in nine seconds over all workers, so that nearly every call would
//! find its connection gone. A dial of this kind is no probe of the circuit breaker and no call of the
//! quota, and holds nothing up.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Kept, Pool, RENEW_AT};

/// How often it is looked at what is ready.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A connection that lived so long is one that the server wants to keep.
const STEADY_AFTER: Duration = Duration::from_secs(4);
/// The wait after a dial, which doubles while no connection lives, and its cap.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Sees to it that the pool has what is to be ready, for as long as there is the pool.
pub(super) async fn keep(pool: Weak<Pool>) {
    let mut pace = Pace::new(Instant::now());
    while let Some(pool) = pool.upgrade() {
        let now = Instant::now();
        pool.warm_up(&mut pace, now);
        drop(pool);
        sleep(LOOK_EVERY).await;
    }
}

impl Pool {
    fn warm_up(self: &Arc<Self>, pace: &mut Pace, now: Instant) {
        let mut kept = self.kept();
        kept.close_old(now);
        if kept.is_steady(now) {
            pace.dials = 0;
        }
        if kept.ready(now).saturating_add(kept.dialling) < self.warm && pace.allows(now) {
            self.dial(&mut kept);
        }
    }
}

impl Kept {
    /// Connections that a call can have. One that carries many requests is enough for all.
    fn ready(&self, now: Instant) -> usize {
        let is_young = |opened: Instant| now - opened < RENEW_AT;
        if self.shared.iter().any(|shared| is_young(shared.opened)) {
            return usize::MAX;
        }
        let young = self.idle.iter().filter(|idle| is_young(idle.opened));
        young.count()
    }

    fn is_steady(&self, now: Instant) -> bool {
        let opened = self.idle.iter().map(|idle| idle.opened);
        opened
            .chain(self.shared.iter().map(|shared| shared.opened))
            .any(|opened| now - opened > STEADY_AFTER)
    }
}

/// How soon it may be dialled: an outage, or a server that closes what it accepts, costs it little.
#[derive(Debug)]
struct Pace {
    /// Since a connection was steady.
    dials: u32,
    not_before: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self {
            dials: 0,
            not_before: now,
        }
    }

    /// Whether to dial now, which is counted.
    fn allows(&mut self, now: Instant) -> bool {
        if now < self.not_before {
            return false;
        }
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(self.dials));
        // Workers, and instances, that lost the server together don't come back together.
        self.not_before = now + wait.min(LONGEST_WAIT).mul_f64(0.5 + fastrand::f64() / 2.0);
        self.dials = self.dials.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_dialled_less_and_less() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let dials = |pace: &mut Pace, from: u32, seconds: u32| {
            let ticks = (from * 4..(from + seconds) * 4).map(|tick| start + LOOK_EVERY * tick);
            ticks.filter(|now| pace.allows(*now)).count()
        };
        let first = dials(&mut pace, 0, 60);
        assert!((7..=14).contains(&first), "{first}");
        let later = dials(&mut pace, 60, 60);
        assert!((3..=9).contains(&later), "{later}");
    }
}
