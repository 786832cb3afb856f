//! Evidence of what became of a request on its connection: what left, what the server says that it
//! never looked at, and whether anything came back.

use std::{sync::Arc, time::Duration};

use hyper::client::conn::TrySendError;
use tokio::time::Instant;

use super::{
    failure::{Failure, Fault, Reached},
    pool::{Pool, User},
    socket::Socket,
};
use crate::{context::Progress, error::Sent};

/// Watches a connection that one request has for itself, and tells the call's progress what left,
/// also where the call is dropped because its time is up.
///
/// A request that was dropped before hyper began to write is never written: hyper looks first.
pub(super) struct Evidence<'a> {
    socket: &'a Socket,
    writes_before: u64,
    progress: &'a Progress,
}

impl<'a> Evidence<'a> {
    pub(super) fn new(socket: &'a Socket, progress: &'a Progress) -> Self {
        Self {
            socket,
            writes_before: socket.writes(),
            progress,
        }
    }

    pub(super) fn reached(&self) -> Reached {
        if self.socket.writes() == self.writes_before {
            Reached::Connected
        } else {
            Reached::Sent
        }
    }
}

impl Drop for Evidence<'_> {
    fn drop(&mut self) {
        if self.reached() == Reached::Sent {
            self.progress.sending();
        }
    }
}

/// Finds out that a connection fell silent: nothing came back on it for as long as a call waited, be it
/// that the attempt's time was up, or that the call was dropped at its deadline.
pub(super) struct Silence<'a> {
    pool: &'a Pool,
    socket: Arc<Socket>,
    user: Option<&'a User>,
    received: u64,
    since: Instant,
    is_over: bool,
}

/// A wait that is shorter says more of the caller's haste than of the connection.
const SILENT_AFTER: Duration = Duration::from_millis(200);

impl<'a> Silence<'a> {
    pub(super) fn new(pool: &'a Pool, socket: &Arc<Socket>, user: Option<&'a User>) -> Self {
        Self {
            pool,
            received: socket.received(),
            socket: Arc::clone(socket),
            user,
            since: Instant::now(),
            is_over: false,
        }
    }

    /// How the wait ended. A connection that failed is no silent one.
    pub(super) fn ended<T>(mut self, ended: Result<T, Failure>) -> Result<T, Failure> {
        self.is_over = !matches!(&ended, Err(failure) if failure.fault == Fault::TimeUp);
        ended
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        if !self.is_over
            && self.since.elapsed() >= SILENT_AFTER
            && self.socket.received() == self.received
        {
            self.pool.fell_silent(self.since, self.user);
        }
    }
}

/// The claim that a request is leaving, on a connection that it shares: it is made as soon as hyper
/// has the request, and withdrawn only where the server or hyper says that it was never looked at.
pub(super) struct Claim<'a> {
    progress: &'a Progress,
    before: Sent,
}

impl<'a> Claim<'a> {
    pub(super) fn new(progress: &'a Progress) -> Self {
        let before = progress.sent();
        progress.sending();
        Self { progress, before }
    }

    pub(super) fn failed<R>(self, failed: TrySendError<R>) -> Failure {
        let given_back = failed.message().is_some();
        let error = failed.into_error();
        let disclaimer = disclaimer(&error);
        let untouched = given_back || disclaimer.is_some();
        if untouched && self.before == Sent::No {
            self.progress.not_sent();
        }
        Failure {
            reached: if untouched {
                Reached::Connected
            } else {
                Reached::Sent
            },
            fault: if given_back || disclaimer == Some(Disclaimer::ConnectionEnds) {
                Fault::Stale
            } else {
                Fault::Lost
            },
            cause: error.into(),
        }
    }
}

/// A server's word that it did not look at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disclaimer {
    /// `REFUSED_STREAM` (RFC 9113, 8.7).
    StreamRefused,
    /// A `GOAWAY` whose last stream is an earlier one (6.8): the only streams that h2 ends with it.
    ConnectionEnds,
}

fn disclaimer(error: &hyper::Error) -> Option<Disclaimer> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>().filter(|e| e.is_remote()) {
            let is_refusal = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return is_refusal
                .then_some(Disclaimer::StreamRefused)
                .or_else(|| error.is_go_away().then_some(Disclaimer::ConnectionEnds));
        }
        cause = error.source();
    }
    None
}
