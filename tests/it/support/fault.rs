//! An upstream that misbehaves on the wire, and knows what it really received.

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use url::Url;

/// The worked example of the specification.
const EVENT: &str = include_str!("../../fixtures/created.json");

/// A gzip member that holds nothing.
const EMPTY_GZIP: [u8; 20] = [
    0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nobody listens.
    Refuses,
    /// Something that is not TLS is said, and nothing is read: for TLS that fails.
    TalksFirst,
    /// The connection is closed as soon as it is accepted.
    ClosesAtOnce,
    /// Some bytes of the request are read, then the connection is closed.
    ClosesWithinTheRequest,
    /// Some bytes of the request are read, then the connection is reset.
    ResetsWithinTheRequest,
    /// The connection is reset after the request.
    ResetsAfterTheRequest,
    /// The answer comes before the request was read.
    AnswersEarly,
    HalfAHead,
    HalfABody,
    /// `content-length` is larger than the body.
    LengthTooLong,
    /// `content-length` is smaller than the body.
    LengthTooShort,
    EndlessChunks,
    OneByteASecond,
    NeverAnswers,
    /// `100 Continue`, which nobody asked for, and then the answer.
    Continue,
    /// Two answers to one request.
    TwoAnswers,
    Redirects,
    Garbage,
    /// A kept connection is closed some time after the answer.
    ClosesBetween,
    /// 204, where the event is asked for.
    NoContent,
    /// `102 Processing`, again and again, as fast as it is read.
    EndlessInterim,
    /// The first connection is answered once, and then says nothing. Those after it are answered.
    FallsSilent,
    /// A body of 40,000 gzip members, each of which holds nothing.
    GzipMembers,
    /// The event of another customer.
    AnothersAnswer,
    /// An answer with this status, and the event if that is a success.
    Answers(u16),
}

impl Fault {
    pub const ALL: [Self; 23] = [
        Self::Refuses,
        Self::ClosesAtOnce,
        Self::ClosesWithinTheRequest,
        Self::ResetsWithinTheRequest,
        Self::ResetsAfterTheRequest,
        Self::AnswersEarly,
        Self::HalfAHead,
        Self::HalfABody,
        Self::LengthTooLong,
        Self::LengthTooShort,
        Self::EndlessChunks,
        Self::OneByteASecond,
        Self::NeverAnswers,
        Self::Continue,
        Self::TwoAnswers,
        Self::Redirects,
        Self::Garbage,
        Self::ClosesBetween,
        Self::NoContent,
        Self::EndlessInterim,
        Self::FallsSilent,
        Self::GzipMembers,
        Self::AnothersAnswer,
    ];

    /// Whether nothing was done, by what the answer says.
    fn rejects(self) -> bool {
        match self {
            Self::Answers(status) => matches!(status, 400..=407 | 409..=499 | 501 | 503),
            other => other == Self::Redirects,
        }
    }
}

/// The random part of a trial.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// Where something is cut.
    pub cut: usize,
    /// How long the upstream waits before it misbehaves.
    pub pause: Duration,
}

impl Chance {
    pub fn random() -> Self {
        Self {
            cut: fastrand::usize(..10_000),
            pause: Duration::from_micros(fastrand::u64(..3000)),
        }
    }
}

/// What a test is told of a request, with the bytes that have arrived of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Arrived,
    /// An answer is about to leave that says that nothing was done.
    Rejected,
}

type Tell = dyn Fn(Event, &[u8]) + Send + Sync;

/// What arrived, on all connections together.
#[derive(Default)]
pub struct Seen {
    bytes: AtomicUsize,
    whole: AtomicUsize,
    tell: Option<Box<Tell>>,
}

impl Seen {
    /// Bytes of requests that were read.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Requests that were read to their end.
    pub fn whole(&self) -> usize {
        self.whole.load(Relaxed)
    }

    fn tell(&self, event: Event, request: &[u8]) {
        if let Some(tell) = &self.tell {
            tell(event, request);
        }
    }

    /// Tells of a request that is left halfway, with what the kernel has of the rest.
    async fn tell_of_part(&self, stream: &TcpStream, request: &[u8]) {
        if self.tell.is_some() && !request.is_empty() {
            let mut rest = [0; 4096];
            let left = timeout(Duration::from_millis(20), stream.peek(&mut rest)).await;
            let left = left.map_or(0, Result::unwrap_or_default);
            self.tell(Event::Arrived, &[request, &rest[..left]].concat());
        }
    }
}

/// A running upstream. Dropped, it closes all of its connections.
pub struct Faulty {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
    _task: JoinSet<()>,
}

impl Faulty {
    /// Every connection meets this fault.
    pub fn start(fault: Fault, chance: Chance) -> Self {
        match fault {
            Fault::Refuses => Self::nobody(),
            Fault::FallsSilent => {
                let mut next = fault;
                Self::with(move || (std::mem::replace(&mut next, Fault::Continue), chance))
            }
            _ => Self::with(move || (fault, chance)),
        }
    }

    /// A connection meets what comes next.
    pub fn with(next: impl FnMut() -> (Fault, Chance) + Send + 'static) -> Self {
        Self::on(Seen::default(), Self::serve(next))
    }

    /// The same, and tells of each request.
    pub fn telling(
        next: impl FnMut() -> (Fault, Chance) + Send + 'static,
        tell: impl Fn(Event, &[u8]) + Send + Sync + 'static,
    ) -> Self {
        let seen = Seen {
            tell: Some(Box::new(tell)),
            ..Seen::default()
        };
        Self::on(seen, Self::serve(next))
    }

    fn serve(
        next: impl FnMut() -> (Fault, Chance) + Send + 'static,
    ) -> impl FnOnce(TcpSocket, Arc<Seen>) -> BoxFuture<'static, ()> {
        |socket, seen| listen(socket.listen(64).unwrap(), next, seen).boxed()
    }

    fn nobody() -> Self {
        Self::on(Seen::default(), |socket, _| async move {
            // Held, so that nobody else gets the port.
            pending::<()>().await;
            drop(socket);
        })
    }

    fn on<F>(seen: Seen, serve: impl FnOnce(TcpSocket, Arc<Seen>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let seen = Arc::new(seen);
        let mut task = JoinSet::new();
        task.spawn(serve(socket, Arc::clone(&seen)));
        Self {
            address,
            seen,
            _task: task,
        }
    }

    pub fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.address)).unwrap()
    }
}

async fn listen(listener: TcpListener, mut next: impl FnMut() -> (Fault, Chance), seen: Arc<Seen>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (fault, chance) = next();
        let seen = Arc::clone(&seen);
        // The gateway may go away at any time; that is its right.
        connections.spawn(async move { converse(stream, fault, chance, &seen).await.ok() });
    }
}

/// An answer with a length, on a connection that is kept.
pub fn answer(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

async fn converse(
    mut stream: TcpStream,
    fault: Fault,
    chance: Chance,
    seen: &Seen,
) -> std::io::Result<()> {
    match fault {
        Fault::Refuses => unreachable!("nobody listens"),
        Fault::ClosesAtOnce => Ok(()),
        Fault::TalksFirst => {
            sleep(chance.pause).await;
            stream.write_all(b"220 mail.example.com ESMTP\r\n").await?;
            sleep(Duration::from_secs(60)).await;
            Ok(())
        }
        Fault::ClosesWithinTheRequest => {
            read(&mut stream, seen, 1 + chance.cut % 400).await?;
            sleep(chance.pause).await;
            Ok(())
        }
        Fault::ResetsWithinTheRequest => {
            read(&mut stream, seen, 1 + chance.cut % 400).await?;
            sleep(chance.pause).await;
            stream.set_zero_linger()
        }
        Fault::AnswersEarly => {
            read(&mut stream, seen, 1 + chance.cut % 400).await?;
            stream.write_all(&answer(EVENT)).await?;
            // Reads the rest, so that the answer isn't lost in a reset.
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            Ok(())
        }
        _ => {
            let request = read(&mut stream, seen, usize::MAX).await?;
            sleep(chance.pause).await;
            if fault.rejects() {
                seen.tell(Event::Rejected, &request);
            }
            answer_badly(stream, fault, chance, seen).await
        }
    }
}

async fn answer_badly(
    mut stream: TcpStream,
    fault: Fault,
    chance: Chance,
    seen: &Seen,
) -> std::io::Result<()> {
    let whole = answer(EVENT);
    let head = whole.len() - EVENT.len();
    match fault {
        Fault::ResetsAfterTheRequest => stream.set_zero_linger(),
        Fault::HalfAHead => stream.write_all(&whole[..=chance.cut % (head - 1)]).await,
        Fault::HalfABody => {
            let end = head + chance.cut % EVENT.trim_end().len();
            stream.write_all(&whole[..end]).await
        }
        Fault::LengthTooLong => with_length(&mut stream, EVENT.len() + 1 + chance.cut).await,
        Fault::LengthTooShort => {
            with_length(&mut stream, chance.cut % EVENT.trim_end().len()).await
        }
        Fault::EndlessChunks => endless(&mut stream).await,
        Fault::OneByteASecond => slowly(&mut stream, &whole).await,
        Fault::NeverAnswers => {
            sleep(Duration::from_secs(60)).await;
            Ok(())
        }
        Fault::Continue => {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            sleep(chance.pause).await;
            stream.write_all(&whole).await
        }
        Fault::TwoAnswers => two_answers(&mut stream, chance, seen).await,
        Fault::Redirects => {
            let head = "HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere/\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(head.as_bytes()).await
        }
        Fault::Garbage => stream.write_all(&[b'\x16'; 40]).await,
        Fault::ClosesBetween => {
            stream.write_all(&whole).await?;
            sleep(chance.pause).await;
            Ok(())
        }
        Fault::NoContent => stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await,
        Fault::EndlessInterim => endless_interim(&mut stream).await,
        Fault::FallsSilent => {
            stream.write_all(&whole).await?;
            loop {
                read(&mut stream, seen, usize::MAX).await?;
            }
        }
        Fault::GzipMembers => gzip_members(&mut stream).await,
        Fault::AnothersAnswer => {
            let anothers = EVENT.replace("cus_123XYZ", "cus_another");
            stream.write_all(&answer(&anothers)).await
        }
        Fault::Answers(200) => stream.write_all(&whole).await,
        Fault::Answers(status) => with_status(&mut stream, status).await,
        _ => unreachable!("handled above"),
    }
}

async fn with_status(stream: &mut TcpStream, status: u16) -> std::io::Result<()> {
    let answer = format!("HTTP/1.1 {status} Status\r\ncontent-length: 2\r\n\r\n{{}}");
    stream.write_all(answer.as_bytes()).await
}

/// The event, said to be so long.
async fn with_length(stream: &mut TcpStream, length: usize) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{EVENT}");
    stream.write_all(head.as_bytes()).await
}

async fn gzip_members(stream: &mut TcpStream) -> std::io::Result<()> {
    let body = EMPTY_GZIP.repeat(40_000);
    let length = body.len();
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), &body].concat()).await
}

async fn endless_interim(stream: &mut TcpStream) -> std::io::Result<()> {
    let padding = "a".repeat(4096);
    let interim = format!("HTTP/1.1 102 Processing\r\nx-padding: {padding}\r\n\r\n");
    loop {
        stream.write_all(interim.as_bytes()).await?;
    }
}

async fn endless(stream: &mut TcpStream) -> std::io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        .await?;
    loop {
        stream.write_all(b"400\r\n").await?;
        stream.write_all(&[b' '; 0x400]).await?;
        stream.write_all(b"\r\n").await?;
    }
}

async fn slowly(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// The second answer, which no call may see, has another id. It comes before the next request: one
/// that came later would be that request's answer for all that HTTP/1.1 tells.
async fn two_answers(stream: &mut TcpStream, chance: Chance, seen: &Seen) -> std::io::Result<()> {
    let stray = answer(&EVENT.replace("979924", "666"));
    if chance.cut.is_multiple_of(2) {
        stream.write_all(&[answer(EVENT), stray].concat()).await?;
    } else {
        stream.write_all(&answer(EVENT)).await?;
        stream.write_all(&stray).await?;
    }
    loop {
        read(stream, seen, usize::MAX).await?;
        stream.write_all(&answer(EVENT)).await?;
    }
}

/// Reads a request, or its first bytes.
async fn read(stream: &mut TcpStream, seen: &Seen, most: usize) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    while request.len() < most {
        let room = u64::try_from(most - request.len()).unwrap();
        let mut part = (&mut *stream).take(room.min(4096));
        let count = part.read_buf(&mut request).await.unwrap_or_default();
        if count == 0 {
            seen.tell_of_part(stream, &request).await;
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        seen.bytes.fetch_add(count, Relaxed);
        if is_whole(&request) {
            seen.whole.fetch_add(1, Relaxed);
            seen.tell(Event::Arrived, &request);
            return Ok(request);
        }
    }
    seen.tell_of_part(stream, &request).await;
    Ok(request)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse() == Ok(body.len()))
}
