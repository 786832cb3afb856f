//! An attempt without a reply: how far it got, and what was wrong. Knows no call.

use crate::error::Source;

/// An attempt without a reply.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reached: Reached,
    pub(super) fault: Fault,
    pub(super) cause: Source,
}

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The time of the attempt was up.
    TimeUp,
    /// The connection had ended before it took the request: another one may take it.
    Stale,
    /// There was no connection, or it was lost.
    Lost,
}

/// How far an attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reached {
    /// There was no connection.
    Nothing,
    /// There was a connection, and no byte of the request left through it; or the server said that
    /// it refused to look at the request.
    Connected,
    /// Some of the request may have arrived.
    Sent,
    /// The head of a reply came back.
    Head,
    /// A whole reply came back, or as much of it as is wanted.
    Body,
}

impl Failure {
    pub(super) fn unconnected(cause: Source) -> Self {
        Self {
            reached: Reached::Nothing,
            fault: Fault::Lost,
            cause,
        }
    }

    pub(super) fn timed_out(reached: Reached) -> Self {
        Self {
            reached,
            fault: Fault::TimeUp,
            cause: "no reply within the time of an attempt".into(),
        }
    }
}
