//! A call on its way through the layers in front of the services, and what comes back. What is known of
//! it is made once, at the door, and handed down; tonic alone needs the context as an extension.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tonic::{Code, body::Body};

use super::callers::Peer;
use crate::{
    callers::Caller,
    context::Context,
    error::{Error, Kind, Write},
};

/// A request on a connection.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) request: Request<Incoming>,
    /// The other end of the connection.
    pub(super) peer: Arc<Peer>,
}

/// A call, once it has a context. Boxed on its way through the layers, as each moves it.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) request: Request<Incoming>,
    pub(super) peer: Arc<Peer>,
    pub(super) context: Context,
}

/// What a call came to.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) response: Response<Body>,
    /// Who called, where callers are identified.
    pub(super) caller: Option<Arc<Caller>>,
    pub(super) end: End,
}

/// How a call ended.
#[derive(Debug)]
pub(super) enum End {
    /// As the service answered it: OK, or a failure with details of its own.
    Answered(Code),
    Failed(Failed),
}

/// How a call failed.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) kind: Kind,
    pub(super) write: Write,
    pub(super) http_status: Option<StatusCode>,
    /// For the log alone.
    pub(super) cause: String,
    /// The name of a caller that no rule lists. For the log alone.
    pub(super) stranger: Option<Box<str>>,
}

impl Failed {
    pub(super) fn new(error: &Error) -> Self {
        Self {
            kind: error.kind,
            write: error.write(),
            http_status: error.http_status,
            cause: error.to_string(),
            stranger: None,
        }
    }
}
