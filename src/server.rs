//! The way in: the listener, and what stands between it and the service.
//!
//! One acceptor hands connections to [`workers`], each of which serves them one by one ([`connection`]): TLS
//! ([`tls`]), HTTP/2 by hyper over bytes that are watched ([`wire`]), and the inbound stack ([`router`]). A
//! connection ends by age, idleness, misconduct ([`life`]) or with the gateway ([`signals`]). Serves whatever
//! services it is given, and knows no resource.

mod access_log;
mod beside;
mod call;
mod callers;
mod connection;
mod crowd;
mod deadline;
mod health;
mod issuer;
mod life;
mod limit;
mod message;
mod places;
mod rescue;
mod router;
mod services;
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
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tracing::{info, warn};

use self::{
    callers::Callers,
    crowd::Crowd,
    life::{FLUSH, LINGER},
    message::Messages,
    places::Places,
    router::Shared,
    signals::Signals,
    workers::{Blueprint, Workers},
};
pub use self::{health::Health, services::Services};
use crate::{
    config::ServerConfig,
    telemetry::{Closed, Connections, Telemetry},
};

/// The wait before accepting again after the system refused, for lack of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The time between warnings that connections can't be taken.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// What the rest of the process sees of a listener.
#[derive(Clone, Debug)]
pub struct Handles {
    /// Whether it takes calls.
    pub health: Health,
    /// What its calls are seen with.
    pub telemetry: Telemetry,
}

impl Handles {
    /// Those of a listener that is yet to run, and that these services are for.
    pub async fn new(telemetry: &Telemetry, services: impl IntoIterator<Item = String>) -> Self {
        Self {
            health: Health::new(services).await,
            telemetry: telemetry.clone(),
        }
    }
}

/// Serves calls from `listener` until `shutdown` is ready, then drains: `NOT_SERVING` at once, new
/// connections for the drain delay, then GOAWAY to all and as much time as the drain timeout gives
/// to calls in flight. Returns at the end of that, whatever peers do.
///
/// Each worker makes services of its own, on its own runtime. An error means that the listener
/// could not start, or that a worker died.
pub async fn run(
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    make_services: impl Fn() -> Services + Send + Sync + 'static,
    config: &ServerConfig,
    handles: &Handles,
) -> io::Result<()> {
    let signals = Signals::default();
    // However this function ends, and if it is dropped: the workers end too.
    let _end = signals.ended.clone().drop_guard();
    let secrets = &handles.telemetry.metrics.secrets;
    let mut shutdown = pin!(shutdown);
    let callers = tokio::select! {
        biased;
        // An issuer of tokens may not answer for hours.
        () = &mut shutdown => return Ok(()),
        callers = Callers::follow(config, &handles.telemetry.metrics) => Arc::new(callers?),
    };
    let tls = config.tls.as_ref();
    let tls = tls
        .map(|files| tls::follow(files, config.reload_interval, secrets))
        .transpose()
        .map_err(io::Error::other)?;
    let places = Places::quartered(config.max_in_flight);
    let workers = Workers::start(Blueprint {
        make_services,
        shared: Shared {
            config: config.clone(),
            health: handles.health.clone(),
            telemetry: handles.telemetry.clone(),
            callers,
            beside: beside::streams(),
            messages: Messages::new(config.max_request_bytes),
            places: Arc::clone(&places),
        },
        tls: tls.map(Arc::new),
        signals: signals.clone(),
    })
    .await?;

    info!(address = %listener.local_addr()?, workers = config.workers, "serving");
    let door = Door {
        listener,
        crowd: Crowd::new(config.connections.max_open),
        warned: None,
        metrics: handles.telemetry.metrics.connections.clone(),
    };
    let health = &handles.health;
    door.stand_open(shutdown, &workers, health, config.drain_delay)
        .await?;
    drain(workers, &signals, &places, config.drain_timeout).await;
    Ok(())
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    crowd: Crowd,
    /// When it was last told that connections can't be taken.
    warned: Option<Instant>,
    metrics: Connections,
}

impl Door {
    /// Lets connections in until `shutdown` is ready, and for the drain delay after that.
    async fn stand_open(
        mut self,
        shutdown: impl Future<Output = ()>,
        workers: &Workers,
        health: &Health,
        drain_delay: Duration,
    ) -> io::Result<()> {
        health.set_serving().await;
        let until_told = self.accept_until(shutdown, workers).await;
        health.set_not_serving().await;
        until_told?;
        info!(delay = ?drain_delay, "asked to stop; still accepting connections");
        self.accept_until(sleep(drain_delay), workers).await?;
        // Connections that the system has taken for us are served too, as their callers may have
        // written already.
        while let Some(Ok((stream, _))) = self.listener.accept().now_or_never() {
            self.hand_over(stream, workers);
        }
        Ok(())
    }

    /// An error means that a worker is gone, with the calls and connections that it had: the process
    /// has to end, as whatever else was given to it would be lost too.
    async fn accept_until(
        &mut self,
        until: impl Future<Output = ()>,
        workers: &Workers,
    ) -> io::Result<()> {
        let mut until = pin!(until);
        let mut died = pin!(workers.died());
        loop {
            tokio::select! {
                biased;
                () = &mut until => return Ok(()),
                () = &mut died => return Err(io::Error::other("a worker died")),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.hand_over(stream, workers),
                    Err(error) => {
                        if self.may_warn() {
                            warn!(%error, "connections can't be accepted");
                        }
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn hand_over(&mut self, stream: TcpStream, workers: &Workers) {
        let open = workers.open();
        let seat = self.crowd.admit(open);
        if open >= self.crowd.max() && self.may_warn() {
            let max = self.crowd.max();
            warn!(
                max,
                "the limit of connections is reached; connections without a call are closed"
            );
        }
        match seat {
            Some(seat) => {
                if let Err(error) = workers.hand_over(stream, seat) {
                    warn!(%error, "a connection could not be passed to a worker");
                }
            }
            None => self.metrics.closed(Closed::Crowded),
        }
    }

    /// Once a minute: a line for each connection would be a flood of its own.
    fn may_warn(&mut self) -> bool {
        let may = self
            .warned
            .is_none_or(|last| last.elapsed() >= WARN_INTERVAL);
        if may {
            self.warned = Some(Instant::now());
        }
        may
    }
}

/// Ends all connections: politely, then with a word to the calls that are left, then anyway.
async fn drain(mut workers: Workers, signals: &Signals, places: &Places, drain_timeout: Duration) {
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
            () = deaf => places.close(),
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
