//! An upstream that speaks TLS and, by ALPN, HTTP/2: frame by frame, so that it can refuse.

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use url::Url;

const EVENT: &str = include_str!("../../fixtures/created.json");

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;

/// What the upstream does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Answers,
    /// Refuses so many streams of a connection, and answers those after.
    Refuses(usize),
    /// Takes no request on a connection after so many, and says so with GOAWAY.
    GoesAway(usize),
    /// Takes the request and is gone.
    HangsUp,
    /// Takes the request, says with GOAWAY that it did, and is gone.
    TakesAndGoesAway,
    /// Takes the request and resets its stream.
    ResetsTheStream,
    /// Allows no streams (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    AllowsNoStreams,
    /// Allows no bytes of a body (`SETTINGS_INITIAL_WINDOW_SIZE`).
    AllowsNoBytes,
    /// Answers so many requests on a connection, and says nothing there any more.
    FallsSilent(usize),
    /// Answers with `102 Processing`, again and again, as fast as it is read.
    AnswersInInterim,
}

impl Manner {
    /// The payload of its SETTINGS.
    fn settings(self) -> &'static [u8] {
        match self {
            Self::AllowsNoStreams => &[0, 3, 0, 0, 0, 0],
            Self::AllowsNoBytes => &[0, 4, 0, 0, 0, 0],
            Self::Answers
            | Self::Refuses(_)
            | Self::GoesAway(_)
            | Self::HangsUp
            | Self::TakesAndGoesAway
            | Self::ResetsTheStream
            | Self::FallsSilent(_)
            | Self::AnswersInInterim => &[],
        }
    }
}

/// What comes of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub manner: Manner,
    /// It is gone with the request after so many.
    pub requests: usize,
    /// The pause before a request is answered, or is not.
    pub pause: Duration,
}

struct Script {
    acceptor: TlsAcceptor,
    life: Box<Lives>,
    tell: Box<Tell>,
}

type Lives = dyn Fn(usize) -> Life + Send + Sync;
type Tell = dyn Fn(&[u8]) + Send + Sync;

/// A running upstream. Dropped, it closes all of its connections.
pub struct Http2 {
    pub address: SocketAddr,
    pub certificate: CertificateDer<'static>,
    counts: Arc<Counts>,
    _task: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    refused: AtomicUsize,
}

impl Http2 {
    pub async fn start(manner: Manner) -> Self {
        Self::start_after(manner, Duration::ZERO).await
    }

    /// With a pause before it answers a request, or does not. Only the first connection goes away or falls
    /// silent.
    pub async fn start_after(manner: Manner, pause: Duration) -> Self {
        let life = move |number| Life {
            manner: match manner {
                Manner::GoesAway(_) | Manner::FallsSilent(_) if number > 0 => Manner::Answers,
                manner => manner,
            },
            requests: usize::MAX,
            pause,
        };
        Self::telling(life, |_| {}).await
    }

    /// Each connection (by its number) has a life of its own. Tells of the bodies that arrived, but for those
    /// of streams that were refused.
    pub async fn telling(
        life: impl Fn(usize) -> Life + Send + Sync + 'static,
        tell: impl Fn(&[u8]) + Send + Sync + 'static,
    ) -> Self {
        let (acceptor, certificate) = acceptor("h2");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let mut task = JoinSet::new();
        let script = Arc::new(Script {
            acceptor,
            life: Box::new(life),
            tell: Box::new(tell),
        });
        task.spawn(listen(listener, script, Arc::clone(&counts)));
        Self {
            address,
            certificate,
            counts,
            _task: task,
        }
    }

    pub fn url(&self) -> Url {
        Url::parse(&format!("https://{}", self.address)).unwrap()
    }

    pub fn connections(&self) -> usize {
        self.counts.connections.load(Relaxed)
    }

    /// Ready when there have been so many, but for a test that fails.
    pub async fn has_connections(&self, count: usize) {
        let there = async {
            while self.connections() < count {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), there).await;
        waited.expect("a connection");
    }

    /// Requests that were taken.
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Relaxed)
    }

    pub fn refused(&self) -> usize {
        self.counts.refused.load(Relaxed)
    }
}

/// TLS with this protocol alone, and the certificate to trust for it.
pub fn acceptor(protocol: &str) -> (TlsAcceptor, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![protocol.into()];
    (TlsAcceptor::from(Arc::new(config)), certificate)
}

async fn listen(listener: TcpListener, script: Arc<Script>, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (script, counts) = (Arc::clone(&script), Arc::clone(&counts));
        // The gateway may go away at any time; that is its right.
        connections.spawn(async move {
            let Ok(stream) = script.acceptor.accept(stream).await else {
                return;
            };
            let life = (script.life)(counts.connections.fetch_add(1, Relaxed));
            let _ = converse(stream, life, &script, &counts).await;
        });
    }
}

type Stream = TlsStream<TcpStream>;

async fn converse(
    mut stream: Stream,
    life: Life,
    script: &Script,
    counts: &Counts,
) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?; // the preface
    write(&mut stream, SETTINGS, 0, 0, life.manner.settings()).await?;
    let (mut taken, mut answered) = (0, 0);
    let mut turned_away = Vec::new();
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
    loop {
        let (kind, flags, id, payload) = read(&mut stream).await?;
        if matches!(kind, HEADERS | DATA) {
            sleep(life.pause).await;
        }
        if kind == DATA && !turned_away.contains(&id) {
            let body = bodies.entry(id).or_default();
            body.extend(payload);
            if flags & END_STREAM != 0 {
                (script.tell)(body);
            }
        }
        let manner = match life.manner {
            Manner::FallsSilent(after) if answered >= after => continue,
            // After its GOAWAY it takes none, as it has said.
            Manner::GoesAway(after) => Manner::GoesAway(after),
            _ if answered >= life.requests => Manner::HangsUp,
            manner => manner,
        };
        match kind {
            SETTINGS if flags == 0 => write(&mut stream, SETTINGS, 1, 0, &[]).await?,
            HEADERS => match manner {
                Manner::Refuses(most) if turned_away.len() < most => {
                    counts.refused.fetch_add(1, Relaxed);
                    turned_away.push(id);
                    let reason = REFUSED_STREAM.to_be_bytes();
                    write(&mut stream, RST_STREAM, 0, id, &reason).await?;
                }
                Manner::GoesAway(after) if taken == after => {
                    turned_away.push(id);
                    let last = id.saturating_sub(2).to_be_bytes();
                    write(&mut stream, GOAWAY, 0, 0, &[last, [0; 4]].concat()).await?;
                }
                _ => taken += 1,
            },
            DATA if flags & END_STREAM != 0 && !turned_away.contains(&id) => {
                counts.requests.fetch_add(1, Relaxed);
                answered += 1;
                if answer(&mut stream, manner, id).await?.is_break() {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
}

/// What a manner makes of a whole request. It breaks where the connection is over with that.
async fn answer(stream: &mut Stream, manner: Manner, id: u32) -> std::io::Result<ControlFlow<()>> {
    let reason = INTERNAL_ERROR.to_be_bytes();
    match manner {
        Manner::HangsUp => return Ok(ControlFlow::Break(())),
        Manner::TakesAndGoesAway => {
            let payload = [id.to_be_bytes(), reason].concat();
            write(stream, GOAWAY, 0, 0, &payload).await?;
            return Ok(ControlFlow::Break(()));
        }
        Manner::AnswersInInterim => loop {
            // `:status: 102`, and `x-p` with 8000 bytes.
            let head = [&b"\x08\x03102\x00\x03x-p\x7f\xc1\x3d"[..], &[b'a'; 8000]].concat();
            write(stream, HEADERS, END_HEADERS, id, &head).await?;
        },
        Manner::ResetsTheStream => write(stream, RST_STREAM, 0, id, &reason).await?,
        Manner::Answers
        | Manner::Refuses(_)
        | Manner::GoesAway(_)
        | Manner::AllowsNoStreams
        | Manner::AllowsNoBytes
        | Manner::FallsSilent(_) => {
            // 0x88 is `:status: 200`.
            write(stream, HEADERS, END_HEADERS, id, &[0x88]).await?;
            write(stream, DATA, END_STREAM, id, EVENT.as_bytes()).await?;
        }
    }
    Ok(ControlFlow::Continue(()))
}

async fn read(stream: &mut Stream) -> std::io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, u32::from_be_bytes(id), payload))
}

async fn write(
    stream: &mut Stream,
    kind: u8,
    flags: u8,
    id: u32,
    payload: &[u8],
) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
    stream
        .write_all(&[head.as_slice(), payload].concat())
        .await?;
    stream.flush().await
}
