//! What a pool holds: connections, those on their way, and the calls that wait for one.
//!
//! There are never more connections than were in use at once and `--warm-connections` besides, so
//! their number follows `--max-in-flight`. The last one kept is the first one used: what load no
//! longer needs stays unused, and is closed.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use tokio::{sync::oneshot, time::Instant};

use super::{
    keeper::Pace,
    lease::{Channel, Exclusive, Lease, Origin, Part, User},
};
use crate::{
    error::Source,
    telemetry::{Census, DialReason},
    upstream::{addresses::Addresses, dial::Sender, socket::Socket},
};

/// How long a connection is kept unused that is one too many: so that the next burst finds those of the
/// one before. Many servers close theirs after 60 or 75 s, and are found to have done so before a call.
const MAX_IDLE: Duration = Duration::from_secs(90);
/// How old a connection gets before it is replaced, so that its server's load is shared out anew.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// Requests at once on one HTTP/2 connection: what its standard asks servers to allow at least.
const MAX_STREAMS: usize = 100;

type Waiter = oneshot::Sender<Result<Lease, Source>>;

/// Connections, and who waits for one.
#[derive(Debug)]
pub(super) struct Kept {
    /// HTTP/1.1 connections without a request, the longest unused first.
    idle: VecDeque<Idle>,
    /// HTTP/2 connections, in use or not.
    multiplexed: Vec<Multiplexed>,
    /// What the last connection spoke.
    protocol: Option<Protocol>,
    /// Connections that are no younger are not kept: none of them was to be trusted any more.
    distrusted_at: Option<Instant>,
    /// Calls that wait for a connection, the first one first.
    pub(super) waiting: VecDeque<Waiter>,
    /// Connections that are being dialled.
    pub(super) dialling: usize,
    /// Connections that live, here or with a call.
    pub(super) open: usize,
    pub(super) pace: Pace,
    warm: usize,
    addresses: Addresses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// Both hold a connection's socket weakly, so that one that the server closed is closed here too.
#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<Full<Bytes>>,
    socket: Weak<Socket>,
    since: Instant,
}

#[derive(Debug)]
struct Multiplexed {
    sender: http2::SendRequest<Full<Bytes>>,
    socket: Weak<Socket>,
    users: User,
}

impl Kept {
    pub(super) fn new(warm: usize, addresses: Addresses) -> Self {
        Self {
            idle: VecDeque::new(),
            multiplexed: Vec::new(),
            protocol: None,
            distrusted_at: None,
            waiting: VecDeque::new(),
            dialling: 0,
            open: 0,
            pace: Pace::default(),
            warm,
            addresses,
        }
    }

    /// A part in a connection that requests share.
    pub(super) fn share(&self) -> Option<Channel> {
        // The youngest first: older ones may be about to be replaced.
        self.multiplexed.iter().rev().find_map(|shared| {
            let has_room = Arc::strong_count(&shared.users) <= MAX_STREAMS;
            let is_open = has_room && !shared.sender.is_closed();
            Some(Channel::Shared(Part {
                socket: shared.socket.upgrade().filter(|_| is_open)?,
                sender: shared.sender.clone(),
                user: Arc::clone(&shared.users),
            }))
        })
    }

    /// The connection that was used last.
    pub(super) fn take_idle(&mut self) -> Option<Channel> {
        loop {
            // hyper may not yet be done with one that was kept just now.
            let at = self.idle.iter().rposition(|idle| idle.sender.is_ready())?;
            let Idle { sender, socket, .. } = self.idle.remove(at)?;
            if let Some(socket) = socket.upgrade().filter(|socket| socket.is_quiet()) {
                return Some(Channel::Exclusive(Exclusive { sender, socket }));
            }
        }
    }

    /// Whether the next call finds a connection, as far as is known without a closer look.
    pub(super) fn has_enough(&self) -> bool {
        !self.multiplexed.is_empty() || self.idle.len() >= self.warm
    }

    /// Gives a new connection to the calls that wait, or keeps it for those to come.
    pub(super) fn admit(&mut self, sender: Sender, socket: Arc<Socket>) {
        match sender {
            Sender::Http1(sender) => {
                self.protocol = Some(Protocol::Http1);
                self.give(Exclusive { sender, socket }, Origin::New);
            }
            Sender::Http2(sender) => {
                self.protocol = Some(Protocol::Http2);
                self.multiplexed.push(Multiplexed {
                    sender,
                    socket: Arc::downgrade(&socket),
                    users: User::default(),
                });
                while !self.waiting.is_empty()
                    && let Some(channel) = self.share()
                {
                    let origin = Origin::New;
                    self.hand_over(Lease { channel, origin });
                }
            }
        }
    }

    /// Takes a connection back from a call.
    pub(super) fn take_back(&mut self, connection: Exclusive) {
        let opened = connection.socket.opened;
        let is_trusted = self.distrusted_at.is_none_or(|at| opened > at);
        let is_wanted = self.waiting.is_empty() || connection.socket.is_quiet();
        if is_trusted && is_wanted && !connection.sender.is_closed() {
            self.give(connection, Origin::Kept);
        }
    }

    fn give(&mut self, connection: Exclusive, origin: Origin) {
        let channel = Channel::Exclusive(connection);
        if let Some(Channel::Exclusive(unwanted)) = self.hand_over(Lease { channel, origin }) {
            self.idle.push_back(Idle {
                sender: unwanted.sender,
                socket: Arc::downgrade(&unwanted.socket),
                since: Instant::now(),
            });
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

    /// How many dials the calls that wait want to be under way.
    pub(super) fn wanted(&mut self, may_multiplex: bool) -> usize {
        self.waiting.retain(|waiter| !waiter.is_closed());
        let may_share = may_multiplex && self.protocol != Some(Protocol::Http1);
        let most = if may_share { 1 } else { usize::MAX };
        self.waiting.len().min(most)
    }

    /// Tells those that wait, and for whom no dial is under way, that there is no connection.
    pub(super) fn fail_waiting(&mut self, cause: Source) {
        let mut cause = Some(cause);
        while self.waiting.len() > self.dialling {
            let Some(waiter) = self.waiting.pop_front() else {
                return;
            };
            let told = cause
                .take()
                .unwrap_or_else(|| "the dial that it waited for failed".into());
            let _ = waiter.send(Err(told));
        }
    }

    /// Closes those that were not used since.
    pub(super) fn distrust_idle(&mut self, since: Instant) {
        self.idle.retain(|idle| idle.since > since);
    }

    /// Gives no more requests to an HTTP/2 connection.
    pub(super) fn forget(&mut self, user: &User) {
        (self.multiplexed).retain(|shared| !Arc::ptr_eq(&shared.users, user));
    }

    /// Keeps none of the connections there are.
    pub(super) fn distrust_all(&mut self) {
        self.distrusted_at = Some(Instant::now());
        self.idle.clear();
        self.multiplexed.clear();
    }

    /// Lets go of connections that have ended.
    pub(super) fn drop_closed(&mut self) {
        self.idle.retain(|idle| !idle.sender.is_closed());
        (self.multiplexed).retain(|shared| !shared.sender.is_closed());
    }

    /// Closes connections that nobody needs: without it, those of a burst of calls would stay open
    /// for as long as OnboardFlow lets them. Those that are to be replaced stay until they are.
    pub(super) fn close_surplus(&mut self, now: Instant) {
        self.drop_closed();
        if self.ready(now) >= self.warm {
            let stays = |socket: &Weak<Socket>| !is_leaving(socket, &self.addresses, now);
            self.idle.retain(|idle| stays(&idle.socket));
            // Requests on one keep it open until they are over.
            self.multiplexed.retain(|shared| stays(&shared.socket));
        }
        // Besides those that are to be ready there is the one that is in use in between: a call now
        // and then costs no dial.
        let spare = if self.warm == 0 { 0 } else { self.warm + 1 };
        let surplus = self.idle.len().saturating_sub(spare);
        let mut place = 0;
        self.idle.retain(|idle| {
            place += 1;
            place > surplus || now - idle.since <= MAX_IDLE
        });
    }

    /// Why a connection is to be dialled now, unless enough are ready or on their way.
    pub(super) fn lacks(&self, now: Instant) -> Option<DialReason> {
        if self.ready(now).saturating_add(self.dialling) >= self.warm {
            return None;
        }
        let idle = self.idle.iter().map(|idle| &idle.socket);
        let shared = self.multiplexed.iter().map(|shared| &shared.socket);
        let mut sockets = idle.chain(shared).filter_map(Weak::upgrade).peekable();
        Some(if sockets.peek().is_some() {
            if sockets.any(|socket| socket.peer.is_some_and(|peer| self.addresses.lack(peer))) {
                DialReason::Moved
            } else {
                DialReason::Aged
            }
        } else if self.open > 0 {
            DialReason::Taken
        } else if self.protocol.is_some() {
            DialReason::Closed
        } else {
            DialReason::Start
        })
    }

    /// Connections that the next calls can have, and that need no replacement. One that carries many
    /// requests is enough for all.
    fn ready(&self, now: Instant) -> usize {
        let stays = |socket: &Weak<Socket>| !is_leaving(socket, &self.addresses, now);
        if self.multiplexed.iter().any(|shared| stays(&shared.socket)) {
            return usize::MAX;
        }
        let idle = self.idle.iter();
        idle.filter(|idle| stays(&idle.socket)).count()
    }

    /// How many there are of each kind.
    pub(super) fn census(&self) -> Census {
        let is_unused = |shared: &&Multiplexed| Arc::strong_count(&shared.users) == 1;
        let unused = self.multiplexed.iter().filter(is_unused).count();
        let warm = self.idle.len() + unused;
        Census {
            warm,
            in_use: self.open.saturating_sub(warm),
            dialling: self.dialling,
        }
    }
}

/// Whether a connection is to be replaced: it is old, or leads to an address that the name has no
/// more.
fn is_leaving(socket: &Weak<Socket>, addresses: &Addresses, now: Instant) -> bool {
    socket.upgrade().is_none_or(|socket| {
        now - socket.opened > MAX_AGE || socket.peer.is_some_and(|peer| addresses.lack(peer))
    })
}
