//! Keeps `--warm-connections` ready, so that no call pays for a handshake, and closes what nobody
//! needs.
//!
//! The largest plan allows one call in nine seconds over all workers, so that nearly every call would
//! find its connection gone. It is woken when a connection ends, is taken into use or is no longer to
//! be trusted, and dials at once; it waits only after a failure. A dial of this kind is no probe of the
//! circuit breaker and no call of the quota, and holds nothing up.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::Pool;
use crate::upstream::{dial::Life, socket::Socket};

/// How often it looks for connections that are old or unused, which nothing wakes it for.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// A connection that lived so long is one that the server wanted to keep, however little was said on it.
const STEADY_AFTER: Duration = Duration::from_secs(4);
/// The wait after a failure, which doubles up to its cap while nothing but failures follow. Where an
/// outage is over, a connection is ready this long after that, and a handshake.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Sees to it that the pool has what is to be ready, for as long as there is the pool.
pub(super) async fn keep(pool: Weak<Pool>) {
    let Some((changed, mut addresses)) = pool.upgrade().map(|pool| {
        let addresses = pool.dialer.addresses().clone();
        (Arc::clone(&pool.changed), addresses)
    }) else {
        return;
    };
    while let Some(look_again) = pool.upgrade().map(|pool| pool.tend()) {
        tokio::select! {
            () = changed.notified() => {}
            () = addresses.lost_one() => {}
            () = sleep_until(look_again) => {}
        }
    }
}

impl Pool {
    /// Closes and dials what is due, and says when to look again.
    fn tend(self: &Arc<Self>) -> Instant {
        let now = Instant::now();
        let mut kept = self.kept();
        kept.close_surplus(now);
        while let Some(reason) = kept.lacks(now) {
            if let Some(not_before) = kept.pace.not_before(now) {
                return not_before.min(now + LOOK_EVERY);
            }
            self.dial(&mut kept, reason);
        }
        now + LOOK_EVERY
    }

    /// Drives a connection until its end, which wakes the keeper.
    pub(super) fn drive(self: &Arc<Self>, socket: Arc<Socket>, life: Life) {
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            life.await;
            if let Some(pool) = pool.upgrade() {
                pool.ended(&socket);
            }
        });
    }

    fn ended(&self, socket: &Socket) {
        let now = Instant::now();
        let mut kept = self.kept();
        kept.open -= 1;
        kept.drop_closed();
        if socket.has_answered() || now - socket.opened >= STEADY_AFTER {
            kept.pace.worked();
        } else {
            kept.pace.failed(now);
        }
        self.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

/// When it may be dialled: an outage, or a server that closes what it accepts, costs it little.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// In a row.
    failures: u32,
    not_before: Option<Instant>,
}

impl Pace {
    pub(super) fn failed(&mut self, now: Instant) {
        let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(self.failures));
        // Workers, and instances, that lost the server together don't come back together.
        let wait = wait.min(LONGEST_WAIT).mul_f64(0.5 + fastrand::f64() / 2.0);
        self.not_before = Some(now + wait);
        self.failures = self.failures.saturating_add(1);
    }

    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    /// When the next dial is due, where it is not due now.
    fn not_before(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|not_before| *not_before > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_dialled_every_few_seconds() {
        let start = Instant::now();
        let (mut pace, mut now, mut dials) = (Pace::default(), start, 0);
        while now < start + Duration::from_secs(60) {
            dials += 1;
            pace.failed(now);
            let next = pace.not_before(now).unwrap();
            assert!(next - now <= LONGEST_WAIT, "{:?}", next - now);
            now = next;
        }
        assert!((20..=50).contains(&dials), "{dials}");
        pace.worked();
        assert_eq!(pace.not_before(now), None);
    }
}
