//! A peer that writes the bytes of HTTP/2 itself, and so may do what no client does.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The header block of a call, each header as a literal.
pub fn headers(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "gateway"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

pub const CREATE: &str = "/onboardflow.customer.v1.CustomerService/CreateCustomer";

/// A call, as its frames.
pub fn call(stream: u32, message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    body.extend(message);
    let mut bytes = frame(HEADERS, END_HEADERS, stream, &headers(CREATE));
    bytes.extend(frame(DATA, END_STREAM, stream, &body));
    bytes
}

/// A connection without manners.
pub struct Peer {
    stream: TcpStream,
}

impl Peer {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self { stream }
    }

    /// That has hardly any room for what it doesn't read.
    pub async fn connect_small(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(address).await.unwrap();
        Self { stream }
    }

    /// That has done what begins a connection, with these settings.
    pub async fn greeting(address: SocketAddr, settings: &[u8]) -> Self {
        let mut peer = Self::connect(address).await;
        peer.greet(settings).await;
        peer
    }

    pub async fn greet(&mut self, settings: &[u8]) {
        self.send(PREFACE).await;
        self.send(&frame(SETTINGS, 0, 0, settings)).await;
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// False if the gateway doesn't take it: it has closed the connection, or reads no more.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        let written = timeout(Duration::from_secs(2), self.stream.write_all(bytes)).await;
        matches!(written, Ok(Ok(())))
    }

    /// Reads to the end, which must come.
    pub async fn closed(&mut self) {
        let mut bytes = [0; 4096];
        let end = async {
            while self
                .stream
                .read(&mut bytes)
                .await
                .is_ok_and(|read| read > 0)
            {}
        };
        timeout(PATIENCE, end).await.expect("it must be closed");
    }

    /// The next frame, or the end.
    pub async fn frame(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.read_frame()).await.unwrap()
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await.ok()?;
        let [a, b, c, kind, _, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// Reads on to a frame of this kind.
    pub async fn frame_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().await.expect("closed before the frame");
            if frame.kind == kind {
                return frame;
            }
        }
    }
}
