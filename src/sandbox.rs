//! An emulated OnboardFlow, so that the gateway can be tried, tested and loaded without the real one.
//!
//! It stands where the vendor's server would: it speaks HTTP/1.1 on a socket and knows nothing of
//! the gateway. It checks what the API would check, in the words of Django REST framework, and answers
//! with an event shaped like the worked example. It keeps nothing. [`TEST_SITE_KEYS`] provoke each failure.
//! A resource is a file beside this one, and a line in [`OnboardFlow::router`].
//!
//! Where the real API's behaviour is not known, this is what was decided:
//! - Types are taken strictly: `"1583020800"` or `1583020800.0` is no integer, `"true"` no boolean
//!   and `null` is never a value, although the framework lets some of that pass. What the
//!   emulation lets through must be right everywhere.
//! - A customer id that it has not seen can be updated. Customers are not remembered at all.
//! - The path without its trailing slash is redirected for every verb, as Django does outside of
//!   its debug mode, so that a client that follows redirects loses its body here first.
//! - A body over 1 MiB is refused by the proxy in front, as nginx does unless told otherwise.
//!
//! It never logs a header, a path or a body.

mod answer;
mod customer;
mod event;
mod fields;
mod gate;
mod sent;
mod subscription;
mod test_site;
#[cfg(test)]
mod tests;
mod tracker;
mod welcome;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, any},
    serve::ListenerExt as _,
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use secrecy::SecretString;
use tokio::{net::TcpListener, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use answer::Answer;
use event::Taken;
use fields::Operation;
use test_site::Provoked;

pub use test_site::TEST_SITE_KEYS;
pub use welcome::Welcome;

/// The longest request body that is read, in bytes: nginx's default.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How much of a body that is too long is read and thrown away before the refusal. A server that
/// closes while the client still writes makes the client see a reset instead of the answer.
const MAX_LINGER_BYTES: usize = 8 * 1024 * 1024;

/// How long `sandbox-slow` takes: longer than `--max-timeout` lets any call take by default.
const SLOW: Duration = Duration::from_secs(90);

/// How long a shutdown waits for calls that are being answered.
const GRACE: Duration = Duration::from_secs(5);

/// The first event's id, which is the worked example's.
const FIRST_EVENT_ID: i64 = 979_924;

/// The emulated API. Clones are one.
#[derive(Clone, Debug)]
pub struct OnboardFlow(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    token: SecretString,
    next_event_id: AtomicI64,
    /// Ends calls that `sandbox-slow` keeps waiting.
    stopping: CancellationToken,
}

impl OnboardFlow {
    /// An API that accepts this key, as `Authorization: Token <key>` and as `Bearer <key>`. Real
    /// keys are 40 hex digits; any other text that holds no space works as well.
    pub fn new(token: SecretString) -> Self {
        Self(Arc::new(Shared {
            token,
            next_event_id: AtomicI64::new(FIRST_EVENT_ID),
            stopping: CancellationToken::new(),
        }))
    }

    /// Answers on `listener` until `shutdown` completes, then lets calls that are being answered
    /// finish (5 s at most; `sandbox-slow` is cut off at once). Dropping the future does the same.
    ///
    /// # Errors
    /// None today: a system that refuses to accept connections is asked again.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let stopping = self.0.stopping.clone();
        let _dropped = stopping.clone().drop_guard();
        let listener = listener.tap_io(|stream| {
            // Only speed is at stake, and the socket may be gone already.
            let _ = stream.set_nodelay(true);
        });
        let served = axum::serve(listener, self.router())
            .with_graceful_shutdown(stopping.clone().cancelled_owned());
        let patience = async {
            shutdown.await;
            stopping.cancel();
            sleep(GRACE).await;
        };
        tokio::select! {
            served = served.into_future() => served,
            () = patience => {
                debug!("the emulated OnboardFlow left calls behind at its shutdown");
                Ok(())
            }
        }
    }

    fn router(self) -> Router {
        Router::new()
            .merge(customer::routes())
            .merge(subscription::routes())
            .merge(tracker::routes())
            .method_not_allowed_fallback(async |method: Method| Answer::not_allowed(&method))
            .fallback(async || Answer::not_found())
            .layer(middleware::from_fn(whole))
            .with_state(self)
    }

    /// What a call is answered with: what is wrong with it, what its site key provokes, or a success.
    async fn call(&self, operation: &Operation, headers: &HeaderMap, body: &[u8]) -> Response {
        let checked = gate::check(headers, &self.0.token);
        let sent = match checked.and_then(|()| fields::parse(operation, body)) {
            Ok(sent) => sent,
            Err(answer) => return answer.into_response(),
        };
        let take = || {
            let id = self.0.next_event_id.fetch_add(1, Ordering::Relaxed);
            (operation.success)(&sent, Taken::now(id)).into_response()
        };
        match test_site::provoke(operation, &sent.text(operation.site_key)) {
            None => take(),
            Some(Provoked::Answer(answer)) => answer.into_response(),
            Some(Provoked::HangUp) => answer::hang_up(),
            Some(Provoked::Late) => tokio::select! {
                () = sleep(SLOW) => take(),
                () = self.0.stopping.cancelled() => answer::hang_up(),
            },
        }
    }
}

/// A resource at its path, whose trailing slash is part of it.
fn resource<const N: usize>(
    path: &'static str,
    operations: [(MethodFilter, &'static Operation); N],
) -> Router<OnboardFlow> {
    let methods = operations.into_iter();
    let methods = methods.fold(MethodRouter::new(), |methods, (verb, operation)| {
        let call = move |State(api): State<OnboardFlow>, headers: HeaderMap, body: Bytes| async move {
            api.call(operation, &headers, &body).await
        };
        methods.on(verb, call)
    });
    let moved = any(async move || Answer::moved(path));
    Router::new()
        .route(path.trim_end_matches('/'), moved)
        .route(path, methods)
}

/// Passes on requests that are whole, as the proxy in front does.
async fn whole(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match read(body).await {
        Ok(Some(body)) => next.run(Request::from_parts(head, body.into())).await,
        Ok(None) => {
            let title = "413 Request Entity Too Large";
            Answer::proxy_page(StatusCode::PAYLOAD_TOO_LARGE, title).into_response()
        }
        Err(_) => answer::hang_up(),
    }
}

/// The whole body, or nothing where it is longer than is read. An error is a client that went.
async fn read(mut body: Body) -> Result<Option<Bytes>, axum::Error> {
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        length += data.len();
        if length <= MAX_BODY_BYTES {
            kept.extend_from_slice(&data);
        } else if length > MAX_LINGER_BYTES {
            break;
        }
    }
    Ok((length <= MAX_BODY_BYTES).then(|| kept.into()))
}
