//! A call on its way through the layers in front of the services, and what comes back. What is known of
//! it is made once, at the door, and handed down; tonic alone needs the context as an extension.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::{Code, body::Body};

use super::{access_log::Failed, callers::Peer};
use crate::{callers::Caller, context::Context};

/// A request on a connection.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) request: Request<Incoming>,
    /// The other end of the connection.
    pub(super) peer: Arc<Peer>,
}

/// A call, once it has a context.
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
