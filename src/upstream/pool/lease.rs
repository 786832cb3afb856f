//! What a call gets from the pool: a connection, or a part in one. Doesn't know which call.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};

use crate::upstream::socket::Socket;

/// Names an HTTP/2 connection, and counts the requests on it by its clones.
pub(in super::super) type User = Arc<()>;

/// A connection for one request.
#[derive(Debug)]
pub(in super::super) struct Lease {
    pub(in super::super) channel: Channel,
    pub(in super::super) origin: Origin,
}

/// Where a lease is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Origin {
    /// Dialled just now.
    New,
    /// Kept: the server may have closed it.
    Kept,
}

/// What a lease gives a request to.
#[derive(Debug)]
pub(in super::super) enum Channel {
    /// The request's own as long as it lasts.
    Exclusive(Exclusive),
    /// Shared with other requests.
    Shared(Part),
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(in super::super) struct Exclusive {
    pub(in super::super) sender: http1::SendRequest<Full<Bytes>>,
    pub(in super::super) socket: Arc<Socket>,
}

/// A part in an HTTP/2 connection.
#[derive(Debug)]
pub(in super::super) struct Part {
    pub(in super::super) sender: http2::SendRequest<Full<Bytes>>,
    pub(in super::super) socket: Arc<Socket>,
    /// Names the connection, and is dropped when the request is over.
    pub(in super::super) user: User,
}
