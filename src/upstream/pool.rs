//! The connections that a worker keeps to OnboardFlow.
//!
//! It never holds more than were in use at once, so its size follows `--max-in-flight`. The last
//! one kept is the first one used: what load no longer needs grows old and is closed.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use tokio::time::{Instant, timeout_at};

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
/// Requests at once on one HTTP/2 connection: what its standard asks servers to allow at least.
const MAX_STREAMS: usize = 100;

/// A worker's connections.
#[derive(Debug)]
pub(super) struct Pool {
    dialer: Dialer,
    kept: Mutex<Kept>,
    /// Held while dialling where many requests may share what comes of it.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    /// HTTP/1.1 connections without a request, the longest unused first.
    idle: VecDeque<Idle>,
    /// HTTP/2 connections, in use or not.
    shared: Vec<Shared>,
    /// Whether the last connection was one for a single request at a time.
    one_at_a_time: bool,
}

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
    opened: Instant,
    /// Counts the requests on it by its clones.
    users: Arc<()>,
}

/// A connection for one request.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) channel: Channel,
    /// Whether it was used before: then the server may have closed it.
    pub(super) reused: bool,
}

/// What a lease gives a request to.
#[derive(Debug)]
pub(super) enum Channel {
    /// The request's own as long as it lasts.
    Exclusive(Exclusive),
    /// Shared with other requests.
    Shared {
        sender: http2::SendRequest<Full<Bytes>>,
        /// Names the connection, and is dropped when the request is over.
        user: Arc<()>,
    },
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Exclusive {
    pub(super) sender: http1::SendRequest<Full<Bytes>>,
    pub(super) socket: Arc<Socket>,
    opened: Instant,
}

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self {
            dialer,
            kept: Mutex::default(),
            dialling: tokio::sync::Mutex::default(),
        }
    }

    /// Another pool of connections to the same place.
    pub(super) fn another(&self) -> Self {
        Self::new(self.dialer.clone())
    }

    /// A kept connection, or a new one.
    pub(super) async fn lease(&self) -> Result<Lease, Source> {
        if let Some(lease) = self.reuse() {
            return Ok(lease);
        }
        if !self.dialer.may_multiplex() || self.kept().one_at_a_time {
            return Ok(self.admit(self.dialer.dial().await?));
        }
        // What the first one opens may serve all who wait here.
        let patience = Instant::now() + self.dialer.timeout();
        let _dialling = timeout_at(patience, self.dialling.lock())
            .await
            .map_err(|_| "no connection within --connect-timeout")?;
        if let Some(lease) = self.reuse() {
            return Ok(lease);
        }
        let dialled = timeout_at(patience, self.dialer.dial()).await;
        Ok(self.admit(dialled.map_err(|_| "no connection within --connect-timeout")??))
    }

    /// Takes an HTTP/1.1 connection back whose request is over. One that hyper isn't done with is
    /// closed.
    pub(super) fn keep(&self, connection: Exclusive) {
        let now = Instant::now();
        if connection.sender.is_closed() || now - connection.opened > MAX_AGE {
            return;
        }
        let mut kept = self.kept();
        while kept.idle.front().is_some_and(|idle| idle.is_old(now)) {
            kept.idle.pop_front();
        }
        kept.idle.push_back(Idle {
            sender: connection.sender,
            socket: Arc::downgrade(&connection.socket),
            opened: connection.opened,
            since: now,
        });
    }

    /// Gives no more requests to an HTTP/2 connection.
    pub(super) fn forget(&self, user: &Arc<()>) {
        let mut kept = self.kept();
        kept.shared
            .retain(|shared| !Arc::ptr_eq(&shared.users, user));
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

    fn admit(&self, Connection { sender, socket }: Connection) -> Lease {
        let opened = Instant::now();
        let mut kept = self.kept();
        kept.one_at_a_time = matches!(sender, Sender::Http1(_));
        let channel = match sender {
            Sender::Http1(sender) => Channel::Exclusive(Exclusive {
                sender,
                socket,
                opened,
            }),
            Sender::Http2(sender) => {
                let user = Arc::new(());
                kept.shared.push(Shared {
                    sender: sender.clone(),
                    opened,
                    users: Arc::clone(&user),
                });
                Channel::Shared { sender, user }
            }
        };
        Lease {
            channel,
            reused: false,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn share(&mut self, now: Instant) -> Option<Channel> {
        // Requests on one that is too old keep it open until they are over.
        self.shared
            .retain(|shared| !shared.sender.is_closed() && now - shared.opened <= MAX_AGE);
        let shared = self
            .shared
            .iter()
            .find(|shared| Arc::strong_count(&shared.users) <= MAX_STREAMS)?;
        Some(Channel::Shared {
            sender: shared.sender.clone(),
            user: Arc::clone(&shared.users),
        })
    }

    fn take_idle(&mut self, now: Instant) -> Option<Channel> {
        loop {
            // hyper may not yet be done with one that was kept just now.
            let at = self.idle.iter().rposition(Idle::is_ready)?;
            let idle = self.idle.remove(at)?;
            if idle.is_old(now) {
                continue;
            }
            if let Some(socket) = idle.socket.upgrade().filter(|socket| socket.is_quiet()) {
                return Some(Channel::Exclusive(Exclusive {
                    sender: idle.sender,
                    socket,
                    opened: idle.opened,
                }));
            }
        }
    }
}

impl Idle {
    fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    fn is_old(&self, now: Instant) -> bool {
        self.sender.is_closed() || now - self.since > MAX_IDLE || now - self.opened > MAX_AGE
    }
}
