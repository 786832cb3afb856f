//! What a call gets from the pool: a connection, or a part in one.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use crate::upstream::socket::Socket;

/// A connection for one request.
#[derive(Debug)]
pub(in super::super) struct Lease {
    pub(in super::super) channel: Channel,
    /// Whether it was kept: then the server may have closed it.
    pub(in super::super) reused: bool,
}

impl Lease {
    pub(super) fn of_new(channel: Channel) -> Self {
        Self {
            channel,
            reused: false,
        }
    }
}

/// What a lease gives a request to.
#[derive(Debug)]
pub(in super::super) enum Channel {
    /// The request's own as long as it lasts.
    Exclusive(Exclusive),
    /// Shared with other requests.
    Shared {
        sender: http2::SendRequest<Full<Bytes>>,
        socket: Weak<Socket>,
        /// Names the connection, and is dropped when the request is over.
        user: Arc<()>,
    },
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(in super::super) struct Exclusive {
    pub(in super::super) sender: http1::SendRequest<Full<Bytes>>,
    pub(in super::super) socket: Arc<Socket>,
    pub(super) opened: Instant,
    pub(super) epoch: u32,
}
