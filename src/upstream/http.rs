//! The transport: one attempt at a call, with evidence of how far it got.
//!
//! What all calls have in common (address, headers, TLS) is prepared once. Redirects are not
//! followed, as one would turn a write into a read.

use std::{pin::pin, sync::Arc};

use ::http::{
    HeaderMap, HeaderValue, Request, Response, Uri, Version,
    header::{
        ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, PROXY_AUTHORIZATION, USER_AGENT,
    },
    uri::{Authority, PathAndQuery, Scheme},
};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    BuildError,
    credentials::Key,
    dial::Dialer,
    evidence::{Claim, Evidence, Silence},
    failure::{Failure, Fault, Reached},
    pool::{Channel, Exclusive, Origin, Part, Pool},
    reply,
    socket::Socket,
    time::within,
};
use crate::{
    config::UpstreamConfig,
    context::{Context, REQUEST_ID},
    error::Source,
    rest::{Call, Ending, Reply},
    telemetry::{Attempt, OutwardConnections},
};

/// Sent as `User-Agent`.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("onboardflow-gateway/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const UNSET: HeaderValue = HeaderValue::from_static("");

type Outgoing = Request<Full<Bytes>>;

/// How much of the time that is left an attempt may use, once it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Whole,
    /// The other half is a next attempt's.
    Half,
}

/// OnboardFlow, as one worker reaches it.
#[derive(Clone, Debug)]
pub(super) struct Http {
    target: Arc<Target>,
    pool: Arc<Pool>,
}

/// What an attempt has to do, and until when. Passed on by reference: each future on the way would have room for
/// what is moved into it.
struct Errand<'a> {
    call: &'a Call,
    key: &'a Key,
    context: &'a Context,
    attempt: &'a Attempt,
    until: Option<Instant>,
}

/// What all requests have in common.
#[derive(Debug)]
struct Target {
    scheme: Scheme,
    authority: Authority,
    /// The base URL's own path, which stands in front of a call's.
    prefix: String,
    /// The base URL's query, which stands behind a call's path.
    query: Option<String>,
    /// Every header that a request has, for HTTP/1.1; some of them are still to be filled in.
    headers: HeaderMap,
    /// Whether a proxy passes the requests on, which then have to name the host in their first line.
    forwarded: bool,
    max_response_bytes: usize,
}

impl Http {
    pub(super) fn new(
        config: &UpstreamConfig,
        metrics: OutwardConnections,
    ) -> Result<Self, BuildError> {
        let target = Target::new(config)?;
        let base = target.absolute(PathAndQuery::from_static("/"));
        let dialer = Dialer::new(base, config)?;
        Ok(Self {
            target: Arc::new(target),
            pool: Arc::new(Pool::new(dialer, config.warm_connections, metrics)),
        })
    }

    /// The same, with connections of its own, for another worker.
    pub(super) fn for_worker(&self) -> Self {
        Self {
            target: Arc::clone(&self.target),
            pool: self.pool.another(),
        }
    }

    /// Sends a call once, and reads what comes back. A status that is no success is a [`Reply`] like
    /// any other.
    pub(super) async fn send(
        &self,
        call: &Call,
        key: &Key,
        context: &Context,
        attempt: &Attempt,
        share: Share,
    ) -> Result<Reply, Failure> {
        loop {
            let lease = self.pool.lease().await.map_err(Failure::unconnected)?;
            let errand = Errand {
                call,
                key,
                context,
                attempt,
                until: match share {
                    Share::Whole => None,
                    Share::Half => Some(context.halfway()),
                },
            };
            let ended = match lease.channel {
                Channel::Exclusive(connection) => self.alone(connection, &errand).await,
                Channel::Shared(part) => self.with_others(part, &errand).await,
            };
            match ended {
                // A kept connection that the server closed: the commonest failure in life, and no
                // attempt at all, as nothing left. The pool runs out of them.
                Err(failure) if failure.fault == Fault::Stale && lease.origin == Origin::Kept => {}
                ended => return ended,
            }
        }
    }

    /// On a connection that the request has for itself.
    async fn alone(
        &self,
        mut connection: Exclusive,
        errand: &Errand<'_>,
    ) -> Result<Reply, Failure> {
        let silence = Silence::new(&self.pool, &connection.socket, None);
        let sent = self.exclusively(&mut connection, errand).await;
        let reply = {
            let mut response = silence.ended(sent)?;
            self.read(&mut response, &connection.socket, errand).await
        };
        if reply.ending == Ending::Complete {
            self.pool.keep(connection);
        }
        Ok(reply)
    }

    async fn exclusively(
        &self,
        connection: &mut Exclusive,
        errand: &Errand<'_>,
    ) -> Result<Response<Incoming>, Failure> {
        let evidence = Evidence::new(&connection.socket, &errand.context.progress);
        let lost = |fault, cause| Failure {
            reached: evidence.reached(),
            fault,
            cause,
        };
        let sender = &mut connection.sender;
        // hyper may not be done with one that was handed on just now.
        if let Err(closed) = sender.ready().await {
            return Err(lost(Fault::Stale, closed.into()));
        }
        let request = self.target.request(errand)?;
        // Its future is gone with this statement: what has not left by the next one never does.
        let sent = within(errand.until, pin!(sender.try_send_request(request))).await;
        match sent {
            Some(Ok(response)) => Ok(response),
            Some(Err(failed)) => {
                let fault = match evidence.reached() {
                    Reached::Connected => Fault::Stale,
                    Reached::Nothing | Reached::Sent | Reached::Head | Reached::Body => Fault::Lost,
                };
                Err(lost(fault, failed.into_error().into()))
            }
            None => Err(Failure::timed_out(evidence.reached())),
        }
    }

    /// On a connection that carries other requests too.
    async fn with_others(&self, mut part: Part, errand: &Errand<'_>) -> Result<Reply, Failure> {
        let request = self.target.for_http2(self.target.request(errand)?);
        let claim = Claim::new(&errand.context.progress);
        let silence = Silence::new(&self.pool, &part.socket, Some(&part.user));
        let sent = within(errand.until, pin!(part.sender.try_send_request(request))).await;
        let sent = sent.ok_or_else(|| Failure::timed_out(Reached::Sent));
        let mut response = silence.ended(sent)?.map_err(|failed| {
            let failure = claim.failed(failed);
            if failure.fault == Fault::Stale {
                self.pool.forget(&part.user);
            }
            failure
        })?;
        Ok(self.read(&mut response, &part.socket, errand).await)
    }

    /// An answer came that was another call's: the next one of every kept connection is suspect.
    pub(super) fn trust_no_kept_connection(&self) {
        self.pool.renew();
    }

    async fn read(
        &self,
        response: &mut Response<Incoming>,
        socket: &Socket,
        errand: &Errand<'_>,
    ) -> Reply {
        socket.heard();
        let limit = self.target.max_response_bytes;
        let read = reply::read(response, limit, errand.until, || socket.heard());
        let (body, ending) = read.await;
        Reply {
            status: response.status(),
            retry_after: reply::retry_after(response.headers()),
            body,
            ending,
            key_holder: errand.key.holder,
        }
    }
}

impl Target {
    fn new(config: &UpstreamConfig) -> Result<Self, BuildError> {
        let base: Uri = config
            .base_url
            .as_str()
            .parse()
            .map_err(|_| BuildError::Host)?;
        let scheme = base.scheme().ok_or(BuildError::Host)?.clone();
        let authority = base.authority().ok_or(BuildError::Host)?.clone();
        let forward = config.proxy.as_ref().filter(|_| scheme == Scheme::HTTP);
        let mut headers = HeaderMap::from_iter([
            (HOST, HeaderValue::from_str(authority.as_str())?),
            (USER_AGENT, AGENT),
            (CONTENT_TYPE, JSON),
            (ACCEPT, JSON),
            (ACCEPT_ENCODING, GZIP),
            (AUTHORIZATION, UNSET),
            (REQUEST_ID, UNSET),
        ]);
        if let Some(authorization) = forward.and_then(|proxy| proxy.authorization.clone()) {
            headers.insert(PROXY_AUTHORIZATION, authorization);
        }
        Ok(Self {
            scheme,
            authority,
            prefix: base.path().trim_end_matches('/').to_owned(),
            query: base.query().map(ToOwned::to_owned),
            headers,
            forwarded: forward.is_some(),
            max_response_bytes: config.max_response_bytes,
        })
    }

    /// A call's request, as HTTP/1.1 has it.
    fn request(&self, errand: &Errand<'_>) -> Result<Outgoing, Failure> {
        let Errand {
            call, key, context, ..
        } = errand;
        let mut request = Request::new(Full::new(call.body.clone().unwrap_or_default()));
        *request.method_mut() = call.method.clone();
        let path = self.path(&call.path).map_err(Failure::unconnected)?;
        *request.uri_mut() = if self.forwarded {
            self.absolute(path)
        } else {
            Uri::from(path)
        };
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        if call.body.is_none() {
            headers.remove(CONTENT_TYPE);
        }
        headers.insert(AUTHORIZATION, key.authorization.clone());
        headers.insert(REQUEST_ID, context.request_id.clone());
        errand.attempt.inject(headers);
        Ok(request)
    }

    /// HTTP/2 has scheme and host in the URI alone.
    fn for_http2(&self, mut request: Outgoing) -> Outgoing {
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = self.absolute(path);
        }
        request.headers_mut().remove(HOST);
        *request.version_mut() = Version::HTTP_2;
        request
    }

    fn absolute(&self, path: PathAndQuery) -> Uri {
        let mut parts = ::http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        // Can't fail, as all three are there.
        Uri::from_parts(parts).unwrap_or_default()
    }

    fn path(&self, path: &PathAndQuery) -> Result<PathAndQuery, Source> {
        match (self.prefix.as_str(), &self.query) {
            ("", None) => Ok(path.clone()),
            (prefix, None) => PathAndQuery::try_from(format!("{prefix}{path}")),
            (prefix, Some(query)) => PathAndQuery::try_from(format!("{prefix}{path}?{query}")),
        }
        .map_err(Into::into)
    }
}
