//! The connections that a worker keeps to OnboardFlow: those that calls share or take in turn, and
//! `--warm-connections` that are ready before a call needs one.
//!
//! A dial belongs to the pool, not to the call that asked for it: where that call's time is up, the
//! connection serves the next one. Calls whose deadline is shorter than a handshake would throw one
//! away each, for ever.
//!
//! hyper-util's `client::pool` (0.1.21) was tried in its place, with connections that take 150 ms and calls
//! that have 100 ms: `cache` and `singleton` each dialled 12 times for 12 calls and served none, as a dial
//! ends with the call that waits for it. They also keep what is idle for ever, `singleton` knows one
//! connection, and nothing in them is dialled ahead, aged or asked of the kernel. What they do (a
//! connection given back goes to the call that waits longest) is `take_back` here.

mod keeper;
mod kept;
mod lease;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout},
};

use self::kept::Kept;
pub(super) use self::lease::{Channel, Exclusive, Lease, Origin, Part, User};
use super::dial::{Connection, Dialer, NO_CONNECTION, Undialled};
use crate::{
    error::Source,
    telemetry::{DialReason, DialResult, OutwardConnections},
};

/// A worker's connections.
#[derive(Debug)]
pub(super) struct Pool {
    dialer: Dialer,
    /// Connections that are kept ready (`--warm-connections`).
    warm: usize,
    kept: Arc<Mutex<Kept>>,
    /// Wakes the keeper: what is kept has changed.
    changed: Arc<Notify>,
    metrics: OutwardConnections,
}

impl Pool {
    pub(super) fn new(dialer: Dialer, warm: usize, metrics: OutwardConnections) -> Self {
        let kept = Kept::new(warm, dialer.addresses().clone());
        Self {
            dialer,
            warm,
            kept: Arc::new(Mutex::new(kept)),
            changed: Arc::new(Notify::new()),
            metrics,
        }
    }

    /// Another pool of connections to the same place, for the runtime that this is called on. It dials
    /// those that are kept ready.
    pub(super) fn another(&self) -> Arc<Self> {
        let pool = Self::new(self.dialer.clone(), self.warm, self.metrics.clone());
        let pool = Arc::new(pool);
        let kept = Arc::downgrade(&pool.kept);
        let count = move || Some(lock(&*kept.upgrade()?).census());
        pool.metrics.count(count);
        tokio::spawn(keeper::keep(Arc::downgrade(&pool)));
        pool
    }

    /// A kept connection, or a new one.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Source> {
        if let Some(lease) = self.reuse() {
            return Ok(lease);
        }
        let _waits = self.metrics.waits();
        let (waiter, waiting) = oneshot::channel();
        {
            let mut kept = self.kept();
            kept.waiting.push_back(waiter);
            self.dial_for_waiting(&mut kept);
        }
        match timeout(self.dialer.timeout(), waiting).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(_)) | Err(_) => Err(NO_CONNECTION.into()),
        }
    }

    fn reuse(&self) -> Option<Lease> {
        let mut kept = self.kept();
        let channel = kept.share().or_else(|| kept.take_idle())?;
        if !kept.has_enough() {
            self.changed.notify_one();
        }
        let origin = Origin::Kept;
        Some(Lease { channel, origin })
    }

    /// Takes an HTTP/1.1 connection back whose request is over, for the call that waits longest, or
    /// for the next one. One that hyper isn't done with is closed.
    pub(super) fn keep(&self, connection: Exclusive) {
        self.kept().take_back(connection);
    }

    /// Nothing came back on a connection since then. Those that were not heard of since are suspect
    /// too: what forgot the one has forgotten them all.
    pub(super) fn fell_silent(&self, since: Instant, user: Option<&User>) {
        self.kept().distrust_idle(since);
        if let Some(user) = user {
            self.forget(user);
        }
        self.changed.notify_one();
    }

    /// Gives no more requests to an HTTP/2 connection.
    pub(super) fn forget(&self, user: &User) {
        self.kept().forget(user);
        self.changed.notify_one();
    }

    /// Gives no more requests to the connections there are: those without one are closed, the others
    /// when theirs is over.
    pub(super) fn renew(&self) {
        self.kept().distrust_all();
        self.changed.notify_one();
    }

    /// Dials as many connections as calls wait for: one, while what it opens may serve them all.
    fn dial_for_waiting(self: &Arc<Self>, kept: &mut Kept) {
        let wanted = kept.wanted(self.dialer.may_multiplex());
        while kept.dialling < wanted {
            self.dial(kept, DialReason::Call);
        }
    }

    fn dial(self: &Arc<Self>, kept: &mut Kept, reason: DialReason) {
        kept.dialling += 1;
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let dialled = pool.dialer.dial().await;
            let result = match &dialled {
                Ok(_) => DialResult::Connected,
                Err(undialled) => undialled.result,
            };
            pool.metrics.dialled(reason, result);
            pool.dialled(dialled);
        });
    }

    fn dialled(self: &Arc<Self>, dialled: Result<Connection, Undialled>) {
        let mut kept = self.kept();
        kept.dialling -= 1;
        match dialled {
            Ok(connection) => {
                kept.open += 1;
                self.drive(Arc::clone(&connection.socket), connection.life);
                kept.admit(connection.sender, connection.socket);
            }
            Err(undialled) => {
                kept.pace.failed(Instant::now());
                kept.fail_waiting(undialled.cause);
            }
        }
        self.dial_for_waiting(&mut kept);
        self.changed.notify_one();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
