//! The way in: the listener, and what stands between it and the service.
//!
//! One acceptor hands connections to [`workers`], each of which serves them one by one
//! ([`connection`]): TLS ([`tls`]), HTTP/2 by hyper over bytes that are watched ([`wire`]), and the
//! inbound stack ([`router`]). A connection ends by age, idleness, misconduct ([`life`]) or with the
//! gateway ([`signals`]).

mod access_log;
mod callers;
mod connection;
mod counters;
mod deadline;
mod health;
mod life;
mod limit;
mod reload;
mod rescue;
mod router;
mod signals;
mod streams;
mod timeout;
mod tls;
mod tokens;
mod wire;
mod workers;

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::{info, warn};

use self::{
    callers::Callers,
    life::{FLUSH, LINGER},
    limit::Admission,
    router::Shared,
    signals::Signals,
    tls::Tls,
    tokens::Tokens,
    workers::{Blueprint, Workers},
};
pub use self::{
    counters::{Closed, Counters, Reloads, WorkerCounters},
    health::Health,
    tls::{TlsError, check as check_tls},
    tokens::check as check_jwks,
};
use crate::{
    config::ServerConfig,
    proto::customer_service_server::CustomerService,
    telemetry::{Listener, Secret, Telemetry},
};

/// The wait before accepting again after the system refused, for lack of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the rest of the process sees of a listener.
#[derive(Clone, Debug)]
pub struct Handles {
    /// Whether it takes calls.
    pub health: Health,
    /// What it counts.
    pub counters: Arc<Counters>,
    /// What its calls are seen with.
    pub telemetry: Telemetry,
}

impl Handles {
    /// Those of a listener that will run with this configuration.
    pub async fn new(config: &ServerConfig, telemetry: &Telemetry) -> Self {
        let counters = Arc::new(Counters::new(config.workers));
        telemetry.metrics.collect(Listener(Arc::clone(&counters)));
        Self {
            health: Health::new().await,
            counters,
            telemetry: telemetry.clone(),
        }
    }
}

/// Serves calls from `listener` until `shutdown` is ready, then drains: `NOT_SERVING` at once, new
/// connections for the drain delay, then GOAWAY to all and as much time as the drain timeout gives
/// to calls in flight. Returns at the end of that, whatever peers do.
///
/// Each worker makes a service of its own, on its own runtime. An error means that the listener
/// could not start.
pub async fn run<S: CustomerService>(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    make_service: impl Fn() -> S + Send + Sync + 'static,
    config: &ServerConfig,
    handles: &Handles,
) -> io::Result<()> {
    let signals = Signals::default();
    // However this function ends, and if it is dropped: the workers end too.
    let _end = signals.ended.clone().drop_guard();
    let mut following = JoinSet::new();
    let tls = follow_tls(config, handles, &mut following)?;
    let callers = Arc::new(Callers {
        allow: config.callers.allow.clone(),
        certificates: (config.tls.as_ref()).is_some_and(|files| files.client_ca.is_some()),
        tokens: follow_tokens(config, handles, &mut following)?,
    });
    let admission = Admission::new(Arc::clone(&handles.counters), config.max_in_flight);
    let admission = Arc::new(admission);
    let workers = Workers::start(Blueprint {
        make_service,
        shared: Shared {
            config: config.clone(),
            health: handles.health.clone(),
            telemetry: handles.telemetry.clone(),
            callers,
            admission: Arc::clone(&admission),
        },
        tls,
        signals: signals.clone(),
        counters: Arc::clone(&handles.counters),
    })
    .await?;

    info!(address = %listener.local_addr()?, workers = config.workers, "serving");
    handles.health.set_serving().await;
    accept_until(shutdown, &listener, &workers).await;
    handles.health.set_not_serving().await;
    info!(delay = ?config.drain_delay, "told to stop; still accepting");
    accept_until(sleep(config.drain_delay), &listener, &workers).await;
    // Connections that the system has taken for us are served too, as their callers may have
    // written already.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        hand_over(stream, &workers);
    }
    drop(listener);
    drain(workers, &signals, &admission, config.drain_timeout).await;
    Ok(())
}

/// The certificate, if there is one, kept up with its files.
fn follow_tls(
    config: &ServerConfig,
    handles: &Handles,
    following: &mut JoinSet<()>,
) -> io::Result<Option<Arc<Tls>>> {
    let Some(files) = &config.tls else {
        return Ok(None);
    };
    let counters = Arc::clone(&handles.counters);
    let (tls, followed) = Tls::load(files, &counters.certificate).map_err(io::Error::other)?;
    let tls = Arc::new(tls);
    let secrets = handles.telemetry.metrics.secrets.clone();
    let note = move |tls: &Tls| {
        secrets.loaded(Secret::Certificate);
        if let Some(at) = tls.expires() {
            secrets.expires(Secret::Certificate, at);
        }
    };
    note(&tls);
    let failures = handles.telemetry.metrics.secrets.clone();
    let (reloaded, interval) = (Arc::clone(&tls), config.reload_interval);
    following.spawn(async move {
        let reload = || {
            let read = reloaded.reload();
            match &read {
                Ok(()) => note(&reloaded),
                Err(_) => failures.reload_failed(Secret::Certificate),
            }
            read
        };
        followed
            .follow(interval, &counters.certificate, reload)
            .await;
    });
    Ok(Some(tls))
}

/// The keys of tokens, if tokens are asked for, kept up with their file.
fn follow_tokens(
    config: &ServerConfig,
    handles: &Handles,
    following: &mut JoinSet<()>,
) -> io::Result<Option<Arc<Tokens>>> {
    let Some(jwt) = &config.callers.jwt else {
        return Ok(None);
    };
    let counters = Arc::clone(&handles.counters);
    let (tokens, followed) = Tokens::load(jwt, &counters.token_keys).map_err(io::Error::other)?;
    let tokens = Arc::new(tokens);
    let secrets = handles.telemetry.metrics.secrets.clone();
    secrets.loaded(Secret::TokenKeys);
    let (reloaded, interval) = (Arc::clone(&tokens), config.reload_interval);
    following.spawn(async move {
        let reload = || {
            let read = reloaded.reload();
            match &read {
                Ok(()) => secrets.loaded(Secret::TokenKeys),
                Err(_) => secrets.reload_failed(Secret::TokenKeys),
            }
            read
        };
        followed
            .follow(interval, &counters.token_keys, reload)
            .await;
    });
    Ok(Some(tokens))
}

async fn accept_until(until: impl Future<Output = ()>, listener: &TcpListener, workers: &Workers) {
    let mut until = pin!(until);
    loop {
        tokio::select! {
            biased;
            () = &mut until => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => hand_over(stream, workers),
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn hand_over(stream: tokio::net::TcpStream, workers: &Workers) {
    if let Err(error) = workers.hand_over(stream) {
        warn!(%error, "a connection could not be handed over");
    }
}

/// Ends all connections: politely, then with a word to the calls that are left, then anyway.
async fn drain(
    mut workers: Workers,
    signals: &Signals,
    admission: &Admission,
    drain_timeout: Duration,
) {
    info!("draining");
    workers.close();
    signals.draining.cancel();
    let begun = Instant::now();
    let end = begun + drain_timeout;
    let over = end - FLUSH.min(drain_timeout / 4);
    {
        let mut finished: Pin<&mut _> = pin!(workers.finished());
        // Whoever still calls has not read the GOAWAY, and will not.
        let deaf = sleep_until(begun + LINGER.min(drain_timeout / 2));
        tokio::select! {
            () = &mut finished => return info!("drained"),
            () = deaf => admission.close(),
        }
        if timeout_at(over, &mut finished).await.is_ok() {
            return info!("drained");
        }
        warn!("calls were still in flight at the end of the drain timeout");
        signals.over.cancel();
        if timeout_at(end, &mut finished).await.is_ok() {
            return;
        }
        signals.ended.cancel();
    }
    // Workers drop what they have and end; one that can't is left behind.
    let _ = timeout_at(Instant::now() + FLUSH, workers.finished()).await;
}
