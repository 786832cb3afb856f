//! Who is turned away at the admin port: pages of other sites that a browser shows, and for commands
//! everybody who is not on this machine. Knows nothing of what is asked for.
//!
//! A browser on this machine comes from this machine too. A page of another site gives itself away by
//! its `Origin`, or, where its name was made to lead here (DNS rebinding), by that name as the `Host`.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{FromRequestParts, Request},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{HOST, ORIGIN},
    request::Parts,
};

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// A command that somebody on this machine gave (which is where `kubectl port-forward` comes from).
pub(super) struct FromThisMachine;

impl<S: Sync> FromRequestParts<S> for FromThisMachine {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let is_here = |Peer(peer): &Peer| peer.ip().to_canonical().is_loopback();
        if !parts.extensions.get::<Peer>().is_some_and(is_here) {
            return refused("this is changed from this machine alone\n");
        }
        if !host(parts).is_some_and(is_local_name) {
            return refused("the Host must be localhost or an address\n");
        }
        Ok(Self)
    }
}

fn refused<T>(why: &'static str) -> Result<T, (StatusCode, &'static str)> {
    Err((StatusCode::FORBIDDEN, why))
}

/// Turns away what a page of any site asks for by script. The port has no pages that would.
pub(super) async fn pages(request: Request, next: Next) -> Response {
    if request.headers().contains_key(ORIGIN) {
        let why = "no page of a browser may ask this\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    next.run(request).await
}

/// The name that the request is for, without its port: HTTP/2 has it in the URI.
fn host(parts: &Parts) -> Option<&str> {
    if let Some(host) = parts.uri.host() {
        return Some(host);
    }
    let host = parts.headers.get(HOST).map(HeaderValue::to_str)?.ok()?;
    match host.rsplit_once(':') {
        // An IPv6 address ends with a bracket, or is followed by a port.
        Some((name, port)) if !port.ends_with(']') => Some(name),
        Some(_) | None => Some(host),
    }
}

/// Whether no name service had a say in where this leads.
fn is_local_name(host: &str) -> bool {
    let is_address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
        .is_ok();
    let name = host.strip_suffix('.').unwrap_or(host);
    is_address || name.eq_ignore_ascii_case("localhost")
}
