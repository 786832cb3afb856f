//! An emulated OnboardFlow, so that the gateway can be tried, tested and loaded without the real one.
//!
//! It stands where the vendor's server would: it speaks HTTP/1.1 on a socket and knows nothing of
//! the gateway. It checks what the Customers API would check, in the words of Django REST
//! framework, keeps what it was sent for a test to look at, and answers with an
//! event shaped like the worked example. [`TEST_SITE_KEYS`] provoke each failure.
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
mod event;
mod fields;
mod gate;
mod history;
mod test_site;
#[cfg(test)]
mod tests;
mod welcome;

use std::{
    fmt, io,
    pin::pin,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicI64, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use secrecy::SecretString;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use answer::Answer;
use event::Change;
use fields::CustomerWrite;
use history::History;
use test_site::Provoked;

pub use history::Received;
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

/// The wait before accepting again after the system refused, and how often that is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const ACCEPT_ATTEMPTS: u32 = 50;

/// The first event's id, which is the worked example's.
const FIRST_EVENT_ID: i64 = 979_924;

/// The emulated API, and what it was sent. Clones share both.
#[derive(Clone)]
pub struct OnboardFlow {
    shared: Arc<Shared>,
}

struct Shared {
    token: SecretString,
    next_event_id: AtomicI64,
    history: Mutex<History>,
}

/// What becomes of a request once it was judged.
enum Outcome {
    Answer(Answer),
    AnswerLate(Answer),
    HangUp,
}

/// Makes hyper close a connection without an answer.
#[derive(Debug)]
struct HangUp;

impl OnboardFlow {
    /// An API that accepts this key, as `Authorization: Token <key>` and as `Bearer <key>`. Real
    /// keys are 40 hex digits; any other text that holds no space works as well.
    #[must_use]
    pub fn new(token: SecretString) -> Self {
        Self {
            shared: Arc::new(Shared {
                token,
                next_event_id: AtomicI64::new(FIRST_EVENT_ID),
                history: Mutex::default(),
            }),
        }
    }

    /// What it was sent, oldest first, refused requests included: the newest 1,000, or fewer where
    /// their bodies are large. A request stands here before its answer is written.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.history(|history| history.to_vec())
    }

    /// Answers on `listener` until `shutdown` completes, then lets calls that are being answered
    /// finish (5 s at most; `sandbox-slow` is cut off at once). Dropping the future closes every
    /// connection.
    ///
    /// # Errors
    /// When the system goes on refusing to accept connections for some seconds.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let (stop, stopping) = watch::channel(());
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                stream = accept(&listener) => {
                    connections.spawn(self.clone().converse(stream?, stopping.clone()));
                }
                // Reaped as they end, or the set would grow for ever.
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        drop(stop);
        let drained = async { while connections.join_next().await.is_some() {} };
        if timeout(GRACE, drained).await.is_err() {
            debug!("the emulated OnboardFlow cut off calls at its shutdown");
        }
        Ok(())
    }

    /// Speaks HTTP/1.1 with one client until either side has had enough. hyper notices when the
    /// client goes while an answer is due, and drops the work on it.
    async fn converse(self, stream: TcpStream, mut stopping: watch::Receiver<()>) {
        let slow_may_last = stopping.clone();
        let service = service_fn(|request| self.respond(request, slow_may_last.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ = stopping.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a connection to the emulated OnboardFlow failed");
        }
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        mut stopping: watch::Receiver<()>,
    ) -> Result<Response<Full<Bytes>>, HangUp> {
        let (head, incoming) = request.into_parts();
        let body = read(incoming).await?;
        let outcome = self.judge(&head, body.as_ref());
        let received = Received::new(head, body.unwrap_or_default());
        self.history(|history| history.push(received));
        match outcome {
            Outcome::Answer(answer) => Ok(answer.into_response()),
            Outcome::AnswerLate(answer) => tokio::select! {
                () = sleep(SLOW) => Ok(answer.into_response()),
                _ = stopping.changed() => Err(HangUp),
            },
            Outcome::HangUp => Err(HangUp),
        }
    }

    fn judge(&self, head: &Parts, body: Option<&Bytes>) -> Outcome {
        self.check(head, body)
            .map_or_else(Outcome::Answer, |(change, write)| match test_site::provoke(
                &write.site_key,
            ) {
                None => Outcome::Answer(self.take(change, &write)),
                Some(Provoked::Late) => Outcome::AnswerLate(self.take(change, &write)),
                Some(Provoked::Answer(answer)) => Outcome::Answer(answer),
                Some(Provoked::HangUp) => Outcome::HangUp,
            })
    }

    /// Everything that can be wrong with a request, in the order in which it is told.
    fn check(&self, head: &Parts, body: Option<&Bytes>) -> Result<(Change, CustomerWrite), Answer> {
        gate::path(&head.uri)?;
        let change = gate::method(&head.method)?;
        gate::credentials(&head.headers, &self.shared.token)?;
        gate::accept(&head.headers)?;
        gate::content_type(&head.headers)?;
        let body = body.ok_or_else(Answer::too_large)?;
        Ok((change, fields::parse(body)?))
    }

    fn take(&self, change: Change, write: &CustomerWrite) -> Answer {
        let id = self.shared.next_event_id.fetch_add(1, Ordering::Relaxed);
        Answer::ok(&event::envelope(id, change, write, event::now_millis()))
    }

    fn history<T>(&self, look: impl FnOnce(&mut History) -> T) -> T {
        let history = self.shared.history.lock();
        look(&mut history.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Shows nothing: what it holds is a key and customers.
impl fmt::Debug for OnboardFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnboardFlow").finish_non_exhaustive()
    }
}

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hung up without an answer")
    }
}

impl std::error::Error for HangUp {}

/// The next connection. Being out of file descriptors passes when others close, so it is waited
/// for; a client that gave up meanwhile counts as one such failure and costs nothing else.
async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let mut attempts = 1;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Only speed is at stake, and the socket may be gone already.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) if attempts == ACCEPT_ATTEMPTS => return Err(error),
            Err(error) => {
                warn!(%error, "the emulated OnboardFlow could not accept a connection");
                attempts += 1;
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The whole body, or nothing where it is longer than is read.
async fn read(mut incoming: Incoming) -> Result<Option<Bytes>, HangUp> {
    let limited = Limited::new(&mut incoming, MAX_BODY_BYTES).collect().await;
    match limited {
        Ok(collected) => Ok(Some(collected.to_bytes())),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let mut thrown_away = 0;
            while let Some(frame) = incoming.frame().await {
                let frame = frame.map_err(|_| HangUp)?;
                thrown_away += frame.data_ref().map_or(0, Bytes::len);
                if thrown_away > MAX_LINGER_BYTES {
                    break;
                }
            }
            Ok(None)
        }
        Err(_client_went) => Err(HangUp),
    }
}
