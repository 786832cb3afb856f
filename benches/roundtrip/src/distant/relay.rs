//! A relay that makes loopback as long as a way to another place: what goes through it takes a while
//! each way, a connection takes a round trip to open, and it closes connections as servers and the
//! machines in between do.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How long anything takes, each way.
pub(crate) const ONE_WAY: Duration = Duration::from_millis(25);

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// They stay.
    Keeps,
    /// They are closed when nothing went over them for so long.
    ClosesIdleAfter(Duration),
    /// They are accepted, and nothing ever comes back.
    SaysNothing,
}

/// A relay on a port of its own.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    is_up: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    open: AtomicUsize,
}

impl Relay {
    pub(crate) async fn start(server: SocketAddr, manner: Manner) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let (is_up, up) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(listener, server, manner, Arc::clone(&counts), up));
        Ok(Self {
            address,
            counts,
            is_up,
            _tasks: tasks,
        })
    }

    /// Refuses connections from now on, and cuts those there are; or takes them again.
    pub(crate) fn set_up(&self, is_up: bool) {
        self.is_up.send_replace(is_up);
    }

    /// Connections that were opened.
    pub(crate) fn opened(&self) -> usize {
        self.counts.opened.load(Relaxed)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> usize {
        self.counts.open.load(Relaxed)
    }
}

async fn listen(
    listener: TcpListener,
    server: SocketAddr,
    manner: Manner,
    counts: Arc<Counts>,
    mut up: watch::Receiver<bool>,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Ok(()) = up.changed() => {
                connections.shutdown().await;
                counts.open.store(0, Relaxed);
                let is_up = *up.borrow_and_update();
                listener = None;
                if is_up {
                    listener = TcpListener::bind(address).await.ok();
                }
            }
            Some((stream, _)) = accepted => {
                let counts = Arc::clone(&counts);
                counts.opened.fetch_add(1, Relaxed);
                counts.open.fetch_add(1, Relaxed);
                connections.spawn(async move {
                    // A connection that ends ends: the calls say what came of it.
                    let _ = relay(stream, server, manner).await;
                    counts.open.fetch_sub(1, Relaxed);
                });
            }
        }
    }
}

async fn relay(mut near: TcpStream, server: SocketAddr, manner: Manner) -> std::io::Result<()> {
    let accepted = Instant::now();
    near.set_nodelay(true)?;
    if manner == Manner::SaysNothing {
        tokio::io::copy(&mut near, &mut tokio::io::sink()).await?;
        return Ok(());
    }
    let far = TcpStream::connect(server).await?;
    far.set_nodelay(true)?;
    let (near_out, near_in) = near.into_split();
    let (far_out, far_in) = far.into_split();
    let last = Arc::new(Mutex::new(accepted));
    // The kernel opened the connection at once. Over a distance that takes a round trip.
    let opens = accepted + 2 * ONE_WAY;
    let forth = delayed(near_out, far_in, opens, Arc::clone(&last));
    let back = delayed(far_out, near_in, accepted, Arc::clone(&last));
    tokio::select! {
        ended = async { tokio::try_join!(forth, back) } => ended.map(|_| ()),
        () = unused(manner, &last) => Ok(()),
    }
}

/// Ready when nothing went over the connection for as long as it may.
async fn unused(manner: Manner, last: &Mutex<Instant>) {
    let Manner::ClosesIdleAfter(idle) = manner else {
        return std::future::pending().await;
    };
    loop {
        let until = *last.lock().unwrap_or_else(PoisonError::into_inner) + idle;
        if Instant::now() >= until {
            return;
        }
        sleep_until(until).await;
    }
}

/// Copies bytes, each of them late.
async fn delayed(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    not_before: Instant,
    last: Arc<Mutex<Instant>>,
) -> std::io::Result<()> {
    let (under_way, mut arriving) = mpsc::unbounded_channel();
    let read = async move {
        loop {
            let mut bytes = Vec::with_capacity(16 << 10);
            if from.read_buf(&mut bytes).await? == 0 {
                return std::io::Result::Ok(());
            }
            let now = Instant::now();
            *last.lock().unwrap_or_else(PoisonError::into_inner) = now;
            if under_way
                .send((now.max(not_before) + ONE_WAY, bytes))
                .is_err()
            {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, bytes)) = arriving.recv().await {
            sleep_until(due).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}
