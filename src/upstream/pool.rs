//! The connections that a worker keeps to OnboardFlow.
//!
//! It never holds more than were in use at once, so its size follows `--max-in-flight`. The last
//! one kept is the first one used: what load no longer needs grows old, and [`tend`] closes it.
//!
//! A dial belongs to the pool, not to the call that asked for it: where that call's time is up, the
//! connection serves the next one. Calls whose deadline is shorter than a handshake would throw one
//! away each, for ever.

mod lease;
mod warm;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

pub(super) use self::lease::{Channel, Exclusive, Lease};
use super::{
    dial::{Connection, Dialer, Sender},
    socket::Socket,
};
use crate::error::Source;

/// How long a connection is kept unused. Servers close theirs after some time too, and the less
/// often they are first, the better.
const MAX_IDLE: Duration = Duration::from_secs(30);
/// How long a connection is used at all, so that a change of OnboardFlow's address is followed.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// How often connections are looked at that nobody asks for any more.
const TEND_EVERY: Duration = Duration::from_secs(10);
/// Requests at once on one HTTP/2 connection: what its standard asks servers to allow at least.
const MAX_STREAMS: usize = 100;
/// When a warm connection is replaced, so that the new one is there before the old one is too old.
const RENEW_AT: Duration = MAX_AGE.saturating_sub(Duration::from_secs(15));

/// A worker's connections.
#[derive(Debug)]
pub(super) struct Pool {
    dialer: Dialer,
    /// Connections that are kept ready (`--warm-connections`).
    warm: usize,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// HTTP/1.1 connections without a request, the longest unused first.
    idle: VecDeque<Idle>,
    /// HTTP/2 connections, in use or not.
    shared: Vec<Shared>,
    /// Whether the last connection was one for a single request at a time.
    one_at_a_time: bool,
    /// Counts how often none of the connections was to be trusted any more.
    epoch: u32,
    /// Calls that wait for a connection, the first one first.
    waiting: VecDeque<Waiter>,
    /// Connections that are being dialled.
    dialling: usize,
    /// How many are kept however long they are unused: those that are warm, and the one that is in
    /// use in between, so that a call now and then costs no dial.
    spare: usize,
    /// Whether [`tend`] is at work.
    is_tended: bool,
}

type Waiter = oneshot::Sender<Result<Lease, Source>>;

const NO_CONNECTION: &str = "no connection within --connect-timeout";

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Weak, so that a connection that the server closed is closed here too.
    socket: Weak<Socket>,
    opened: Instant,
    since: Instant,
}

#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    socket: Weak<Socket>,
    opened: Instant,
    /// Counts the requests on it by its clones.
    users: Arc<()>,
}

impl Pool {
    pub(super) fn new(dialer: Dialer, warm: usize) -> Self {
        let kept = Kept {
            spare: if warm == 0 { 0 } else { warm + 1 },
            ..Kept::default()
        };
        Self {
            dialer,
            warm,
            kept: Arc::new(Mutex::new(kept)),
        }
    }

    /// Another pool of connections to the same place, for the runtime that this is called on. It dials
    /// those that are kept ready.
    pub(super) fn another(&self) -> Arc<Self> {
        let pool = Arc::new(Self::new(self.dialer.clone(), self.warm));
        if pool.warm > 0 && Handle::try_current().is_ok() {
            tokio::spawn(warm::keep(Arc::downgrade(&pool)));
        }
        pool
    }

    /// A kept connection, or a new one.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, Source> {
        if let Some(lease) = self.reuse() {
            return Ok(lease);
        }
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

    /// Dials as many connections as calls wait for: one, while what it opens may serve them all.
    fn dial_for_waiting(self: &Arc<Self>, kept: &mut Kept) {
        kept.waiting.retain(|waiter| !waiter.is_closed());
        let may_share = self.dialer.may_multiplex() && !kept.one_at_a_time;
        let wanted = kept
            .waiting
            .len()
            .min(if may_share { 1 } else { usize::MAX });
        while kept.dialling < wanted {
            self.dial(kept);
        }
    }

    fn dial(self: &Arc<Self>, kept: &mut Kept) {
        kept.dialling += 1;
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let dialled = pool.dialer.dial().await;
            pool.dialled(dialled);
        });
    }

    fn dialled(self: &Arc<Self>, dialled: Result<Connection, Source>) {
        let mut kept = self.kept();
        kept.dialling -= 1;
        match dialled {
            Ok(connection) => kept.admit(connection),
            Err(error) => kept.fail_waiting(error),
        }
        self.dial_for_waiting(&mut kept);
        self.have_tended(&mut kept);
    }

    /// Takes an HTTP/1.1 connection back whose request is over. One that hyper isn't done with is
    /// closed.
    pub(super) fn keep(&self, connection: Exclusive) {
        let idle = Idle {
            sender: connection.sender,
            socket: Arc::downgrade(&connection.socket),
            opened: connection.opened,
            since: Instant::now(),
        };
        let mut kept = self.kept();
        if !idle.is_old(idle.since) && connection.epoch == kept.epoch {
            kept.idle.push_back(idle);
            self.have_tended(&mut kept);
        }
    }

    /// Nothing came back on a connection since then. Those that were not heard of since are suspect
    /// too: what forgot the one has forgotten them all.
    pub(super) fn fell_silent(&self, since: Instant, user: Option<&Arc<()>>) {
        self.kept().idle.retain(|idle| idle.since > since);
        if let Some(user) = user {
            self.forget(user);
        }
    }

    /// Gives no more requests to an HTTP/2 connection.
    pub(super) fn forget(&self, user: &Arc<()>) {
        let mut kept = self.kept();
        kept.shared
            .retain(|shared| !Arc::ptr_eq(&shared.users, user));
    }

    /// Gives no more requests to the connections there are: those without one are closed, the others
    /// when theirs is over.
    pub(super) fn renew(&self) {
        let mut kept = self.kept();
        kept.epoch = kept.epoch.wrapping_add(1);
        kept.idle.clear();
        kept.shared.clear();
    }

    fn reuse(&self) -> Option<Lease> {
        let mut kept = self.kept();
        let now = Instant::now();
        let channel = kept.share(now).or_else(|| kept.take_idle(now))?;
        Some(Lease {
            channel,
            reused: true,
        })
    }

    /// Sees to it that what is kept is closed in time. There is a task for it only while there is
    /// something to close.
    fn have_tended(&self, kept: &mut Kept) {
        if !kept.is_tended {
            kept.is_tended = true;
            tokio::spawn(tend(Arc::downgrade(&self.kept)));
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        lock(&self.kept)
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes connections as they grow old: without it, those of a burst of calls would stay open for as
/// long as OnboardFlow lets them. Ends when none is left.
async fn tend(kept: Weak<Mutex<Kept>>) {
    loop {
        sleep(TEND_EVERY).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = lock(&kept);
        kept.close_old(Instant::now());
        if kept.idle.is_empty() && kept.shared.is_empty() {
            kept.is_tended = false;
            return;
        }
    }
}

impl Kept {
    /// Gives a new connection to the calls that wait, or keeps it for those to come.
    fn admit(&mut self, Connection { sender, socket }: Connection) {
        let opened = Instant::now();
        self.one_at_a_time = matches!(sender, Sender::Http1(_));
        match sender {
            Sender::Http1(sender) => {
                let lease = Lease::of_new(Channel::Exclusive(Exclusive {
                    sender,
                    socket,
                    opened,
                    epoch: self.epoch,
                }));
                if let Some(Channel::Exclusive(unwanted)) = self.hand_over(lease) {
                    self.idle.push_back(Idle {
                        sender: unwanted.sender,
                        socket: Arc::downgrade(&unwanted.socket),
                        opened,
                        since: opened,
                    });
                }
            }
            Sender::Http2(sender) => {
                self.shared.push(Shared {
                    sender,
                    socket: Arc::downgrade(&socket),
                    opened,
                    users: Arc::new(()),
                });
                while !self.waiting.is_empty()
                    && let Some(channel) = self.share(opened)
                {
                    self.hand_over(Lease::of_new(channel));
                }
            }
        }
    }

    /// Gives a connection to the first call that still waits, or back.
    fn hand_over(&mut self, mut lease: Lease) -> Option<Channel> {
        while let Some(waiter) = self.waiting.pop_front() {
            match waiter.send(Ok(lease)) {
                Err(Ok(unwanted)) => lease = unwanted,
                Ok(()) | Err(Err(_)) => return None,
            }
        }
        Some(lease.channel)
    }

    /// Tells the calls that no other dial is under way for.
    fn fail_waiting(&mut self, error: Source) {
        let mut error = Some(error);
        while self.waiting.len() > self.dialling {
            let Some(waiter) = self.waiting.pop_front() else {
                return;
            };
            let told = error
                .take()
                .unwrap_or_else(|| "the dial that it waited for failed".into());
            let _ = waiter.send(Err(told));
        }
    }

    fn close_old(&mut self, now: Instant) {
        // The longest unused come first.
        let surplus = self.idle.len().saturating_sub(self.spare);
        let mut place = 0;
        self.idle.retain(|idle| {
            place += 1;
            !idle.is_old(now) && (place > surplus || !idle.is_unused(now))
        });
        // Requests on one that is too old keep it open until they are over.
        self.shared.retain(|shared| !shared.is_old(now));
    }

    fn share(&mut self, now: Instant) -> Option<Channel> {
        let has_room = |shared: &&Shared| {
            !shared.is_old(now) && Arc::strong_count(&shared.users) <= MAX_STREAMS
        };
        let shared = self.shared.iter().find(has_room)?;
        Some(Channel::Shared {
            sender: shared.sender.clone(),
            socket: Weak::clone(&shared.socket),
            user: Arc::clone(&shared.users),
        })
    }

    fn take_idle(&mut self, now: Instant) -> Option<Channel> {
        loop {
            // hyper may not yet be done with one that was kept just now.
            let at = self.idle.iter().rposition(Idle::is_ready)?;
            let idle = self.idle.remove(at)?;
            if idle.is_old(now) || self.spare == 0 && idle.is_unused(now) {
                continue;
            }
            if let Some(socket) = idle.socket.upgrade().filter(|socket| socket.is_quiet()) {
                return Some(Channel::Exclusive(Exclusive {
                    sender: idle.sender,
                    socket,
                    opened: idle.opened,
                    epoch: self.epoch,
                }));
            }
        }
    }
}

impl Shared {
    fn is_old(&self, now: Instant) -> bool {
        self.sender.is_closed() || now - self.opened > MAX_AGE
    }
}

impl Idle {
    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    fn is_old(&self, now: Instant) -> bool {
        self.sender.is_closed() || now - self.opened > MAX_AGE
    }

    fn is_unused(&self, now: Instant) -> bool {
        now - self.since > MAX_IDLE
    }
}
