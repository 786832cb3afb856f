//! An upstream that answers with the bytes that it is given, and keeps what it was sent.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Received {
    /// Request line and header lines.
    pub head: String,
    pub body: Vec<u8>,
}

impl Received {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// An HTTP/1.1 server on a port of its own. It ends with the test's runtime.
pub struct Upstream {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Upstream {
    /// Answers every request with these bytes, and closes the connection after them.
    pub async fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::with(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                // The gateway may stop reading before the end; that is its right.
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// Answers every request with a status and a JSON body.
    pub async fn answering(status: u16, body: &str) -> Self {
        Self::saying(response(
            status,
            &[("content-type", "application/json")],
            body,
        ))
        .await
    }

    /// Reads one request a connection, keeps it, and hands the connection to `then`.
    pub async fn with<F>(then: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::hearing(move |stream, _| then(stream)).await
    }

    /// The same, for those who want to know what the request says.
    pub async fn hearing<F>(then: impl Fn(TcpStream, Received) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let then = Arc::new(then);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (kept, then) = (Arc::clone(&kept), Arc::clone(&then));
                tokio::spawn(async move {
                    if let Some(request) = read_request(&mut stream).await {
                        kept.lock().unwrap().push(request.clone());
                        then(stream, request).await;
                    }
                });
            }
        });
        Self { address, received }
    }

    pub fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.address)).unwrap()
    }

    /// Every request so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// The URL of a port that was just given up: nobody listens there.
pub async fn nobody() -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap()
}

/// An HTTP/1.1 response with a length.
pub fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!(
        "HTTP/1.1 {status} Status\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.extend([*name, ": ", *value, "\r\n"]);
    }
    text.push_str("connection: close\r\n\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// A whole request, unless the connection ends before.
pub async fn read_request(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = bytes.split_off(head_end + 4);
    let head = String::from_utf8(bytes).ok()?;
    let mut received = Received {
        head: head.trim_end().to_owned(),
        body: Vec::new(),
    };
    let length: usize = received.header("content-length")?.parse().ok()?;
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    received.body = body;
    Some(received)
}
