//! The workers: a thread and a current-thread runtime each, with their own connections and their own
//! way out to the upstream, so that nothing that a call does crosses a thread.
//!
//! The first worker is the acceptor's own runtime: on one CPU, one thread does all.

use std::{io, net, sync::Arc, thread};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::{
    net::TcpStream,
    runtime,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tracing::{debug, error};

use super::{
    connection::Connections, crowd::Seat, router::Router, router::Shared, services::Services,
    signals::Signals, tls::Tls,
};
use crate::telemetry::{Open, WorkerConnections};

/// The workers, as the acceptor knows them.
pub(super) struct Workers {
    inboxes: Vec<Inbox>,
    finished: mpsc::Receiver<()>,
}

/// A worker, as the acceptor knows it.
struct Inbox {
    connections: WorkerConnections,
    arriving: mpsc::UnboundedSender<Arriving>,
}

/// A connection on its way to its worker.
struct Arriving {
    stream: net::TcpStream,
    open: Open,
    seat: Arc<Seat>,
}

/// What every worker is made of.
pub(super) struct Blueprint<F> {
    pub(super) make_services: F,
    pub(super) shared: Shared,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) signals: Signals,
}

impl Workers {
    /// Starts as many as are configured.
    pub(super) async fn start<F>(blueprint: Blueprint<F>) -> io::Result<Self>
    where
        F: Fn() -> Services + Send + Sync + 'static,
    {
        let blueprint = Arc::new(blueprint);
        let (working, finished) = mpsc::channel(1);
        let mut inboxes = Vec::new();
        let metrics = &blueprint.shared.telemetry.metrics.connections;
        for index in 0..blueprint.shared.config.workers {
            let (inbox, arriving) = mpsc::unbounded_channel();
            inboxes.push(Inbox {
                connections: metrics.of_worker(index),
                arriving: inbox,
            });
            let worker = Worker {
                arriving,
                _working: working.clone(),
            };
            if index == 0 {
                let connections = blueprint.connections()?;
                tokio::spawn(worker.work(connections));
            } else {
                worker.start(index, Arc::clone(&blueprint)).await?;
            }
        }
        Ok(Self { inboxes, finished })
    }

    /// Gives a connection to the worker that has the fewest.
    pub(super) fn hand_over(&self, stream: TcpStream, seat: Arc<Seat>) -> io::Result<()> {
        let stream = stream.into_std()?;
        let inboxes = self.inboxes.iter();
        let Some(inbox) = inboxes.min_by_key(|inbox| inbox.connections.open()) else {
            return Ok(());
        };
        let arriving = Arriving {
            stream,
            open: inbox.connections.opened(),
            seat,
        };
        let handed = inbox.arriving.send(arriving);
        handed.map_err(|_| io::Error::other("the worker is gone"))
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        let open = (self.inboxes.iter()).map(|inbox| inbox.connections.open());
        open.map(|open| usize::try_from(open).unwrap_or_default())
            .sum()
    }

    /// Ready when a worker is gone, which must not be: it has panicked.
    pub(super) async fn died(&self) {
        let mut inboxes: FuturesUnordered<_> = (self.inboxes.iter())
            .map(|inbox| inbox.arriving.closed())
            .collect();
        inboxes.next().await;
    }

    /// There will be no more connections.
    pub(super) fn close(&mut self) {
        self.inboxes.clear();
    }

    /// Ready when every worker has seen its last connection end.
    pub(super) async fn finished(&mut self) {
        // Nothing is ever sent: this is the end of the last sender.
        let _ = self.finished.recv().await;
    }
}

impl<F: Fn() -> Services> Blueprint<F> {
    /// Made by the worker itself, so that what belongs to a runtime belongs to its own.
    fn connections(&self) -> io::Result<Connections> {
        let services = (self.make_services)();
        Ok(Connections {
            config: self.shared.config.connections.clone(),
            max_timeout: self.shared.config.max_timeout,
            router: Router::new(services, &self.shared)?,
            tls: self.tls.clone(),
            signals: self.signals.clone(),
            metrics: self.shared.telemetry.metrics.connections.clone(),
        })
    }
}

struct Worker {
    arriving: mpsc::UnboundedReceiver<Arriving>,
    _working: mpsc::Sender<()>,
}

impl Worker {
    /// On a thread of its own.
    async fn start<F>(self, index: usize, blueprint: Arc<Blueprint<F>>) -> io::Result<()>
    where
        F: Fn() -> Services + Send + Sync + 'static,
    {
        let (started, starting) = oneshot::channel();
        thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || self.run(&blueprint, started))?;
        starting
            .await
            .map_err(|_| io::Error::other("a worker ended at its start"))?
    }

    fn run(
        self,
        blueprint: &Blueprint<impl Fn() -> Services>,
        started: oneshot::Sender<io::Result<()>>,
    ) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        runtime.block_on(async {
            match blueprint.connections() {
                Ok(connections) => {
                    let _ = started.send(Ok(()));
                    self.work(connections).await;
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
        // A lookup of a name can't be cancelled, and must not hold up the end.
        runtime.shutdown_background();
    }

    /// Serves what arrives, until nothing more does and the last connection has ended.
    async fn work(mut self, connections: Connections) {
        let ended = connections.signals.ended.clone();
        let connections = Arc::new(connections);
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                arrived = self.arriving.recv() => match arrived {
                    Some(arriving) => Self::take(arriving, &connections, &mut tasks),
                    None => break,
                },
                // Reaped as they end, or the set would grow for ever.
                Some(_) = tasks.join_next() => {}
            }
        }
        tokio::select! {
            () = ended.cancelled() => {}
            () = async { while tasks.join_next().await.is_some() {} } => {}
        }
    }

    fn take(arriving: Arriving, connections: &Arc<Connections>, tasks: &mut JoinSet<()>) {
        let Arriving { stream, open, seat } = arriving;
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => return error!(%error, "a worker could not take a connection"),
        };
        let connections = Arc::clone(connections);
        tasks.spawn(async move {
            let _open = open;
            let why = connections.serve(stream, &seat).await;
            connections.metrics.closed(why);
            debug!(reason = why.name(), "connection closed");
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn a_worker_that_died_is_noticed_without_a_connection() {
        let connections = Metrics::new().connections;
        let (inboxes, mut workers): (Vec<_>, Vec<_>) = (0..2)
            .map(|index| {
                let (arriving, worker) = mpsc::unbounded_channel();
                let connections = connections.of_worker(index);
                let inbox = Inbox {
                    connections,
                    arriving,
                };
                (inbox, worker)
            })
            .unzip();
        let (_working, finished) = mpsc::channel(1);
        let known = Workers { inboxes, finished };
        assert_eq!(known.died().now_or_never(), None);
        workers.pop();
        assert_eq!(known.died().now_or_never(), Some(()));
    }
}
