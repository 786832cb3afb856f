//! OnboardFlow's stand-in: one thread, HTTP/1.1, the worked example's reply to every call. Written
//! by hand, so that it costs little next to what is measured; it still refuses what isn't a call.

use std::{io::Write as _, sync::Arc};

use bytes::{Buf as _, BytesMut};
use flate2::{Compression, write::GzEncoder};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Fallible, ServerArgs, tls,
    worked_example::{CREATED, Rpc},
};

pub(crate) fn run(args: &ServerArgs) -> Fallible<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(serve(args))
}

async fn serve(args: &ServerArgs) -> Fallible<()> {
    let tls = match &args.tls {
        Some(folder) => Some(TlsAcceptor::from(tls::server(folder, b"http/1.1")?)),
        None => None,
    };
    let replies = Arc::new(Replies::new()?);
    let listener = TcpListener::bind(args.listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (replies, tls) = (Arc::clone(&replies), tls.clone());
        tokio::spawn(async move {
            // A connection that ends ends: the load says whether calls failed.
            let _ = match tls {
                None => converse(stream, &replies).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => converse(stream, &replies).await,
                    Err(error) => Err(error),
                },
            };
        });
    }
}

/// The replies, whole.
struct Replies {
    created: Vec<u8>,
    created_in_gzip: Vec<u8>,
    updated: Vec<u8>,
    refused: Vec<u8>,
}

impl Replies {
    fn new() -> std::io::Result<Self> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(CREATED.as_bytes())?;
        let updated = CREATED.replace(Rpc::Create.event_type(), Rpc::Update.event_type());
        Ok(Self {
            created: reply("200 OK", CREATED.as_bytes()),
            created_in_gzip: reply("200 OK\r\ncontent-encoding: gzip", &gzip.finish()?),
            updated: reply("200 OK", updated.as_bytes()),
            refused: reply("400 Bad Request", b"{}"),
        })
    }

    fn to(&self, head: &[u8], body: &[u8]) -> &[u8] {
        let looks_whole = body.starts_with(b"{") && body.ends_with(b"}");
        if head.starts_with(b"POST /api/v1/customer/ HTTP/1.1\r\n") && looks_whole {
            &self.created
        } else if head.starts_with(b"POST /gzip/api/v1/customer/ HTTP/1.1\r\n") && looks_whole {
            &self.created_in_gzip
        } else if head.starts_with(b"PUT /api/v1/customer/ HTTP/1.1\r\n") && looks_whole {
            &self.updated
        } else {
            &self.refused
        }
    }
}

fn reply(status: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         date: Fri, 03 Apr 2020 12:58:23 GMT\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    replies: &Replies,
) -> std::io::Result<()> {
    let mut received = BytesMut::with_capacity(4096);
    loop {
        while let Some((head, whole)) = request_lengths(&received) {
            let reply = replies.to(&received[..head], &received[head..whole]);
            stream.write_all(reply).await?;
            stream.flush().await?;
            received.advance(whole);
        }
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
    }
}

/// Where the head of the first request ends, and where the request does, if all of it is there.
fn request_lengths(received: &[u8]) -> Option<(usize, usize)> {
    let head = received.windows(4).position(|at| at == b"\r\n\r\n")? + 4;
    let length = received[..head]
        .split(|&byte| byte == b'\n')
        .find_map(|line| {
            let (name, value) = line.split_at_checked(15)?;
            name.eq_ignore_ascii_case(b"content-length:")
                .then_some(value)
        })?;
    let length: usize = str::from_utf8(length).ok()?.trim().parse().ok()?;
    (received.len() >= head + length).then_some((head, head + length))
}
