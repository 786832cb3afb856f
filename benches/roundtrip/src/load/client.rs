//! A gRPC client that has its bytes ready: one request, sent again and again.

use std::{net::SocketAddr, path::Path};

use bytes::Bytes;
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, Request, header};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    Fallible,
    features::Feature,
    target::Target,
    tls,
    worked_example::{
        Rpc, mirrored_request_frame, mirrored_response_frame, request_frame, response_frame,
    },
};

/// Connections to one target, and the call to make over them.
pub(crate) struct Client {
    connections: Vec<SendRequest<Bytes>>,
    request: Request<()>,
    frame: Bytes,
    expected: Bytes,
    feature: Feature,
}

impl Client {
    /// Opens the connections. With a folder for TLS, its certificate is the one to trust.
    pub(crate) async fn connect(
        address: SocketAddr,
        tls: Option<&Path>,
        connections: usize,
        rpc: Rpc,
        target: &Target,
    ) -> Fallible<Self> {
        let tls = match tls {
            Some(folder) => Some(TlsConnector::from(tls::client(folder, b"h2")?)),
            None => None,
        };
        let feature = target.feature();
        let (path, frame, expected) = match target {
            Target::Envoy(_) => (
                rpc.mirrored_path(),
                mirrored_request_frame(),
                mirrored_response_frame(rpc),
            ),
            Target::Floor | Target::Textbook | Target::Gateway(_) => (
                rpc.path(),
                request_frame(String::new()),
                response_frame(rpc),
            ),
        };
        let mut client = Self {
            connections: Vec::with_capacity(connections),
            request: request(path, tls.is_some(), feature.authorization())?,
            frame,
            expected,
            feature,
        };
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            client.connections.push(match &tls {
                None => handshake(stream).await?,
                Some(tls) => {
                    let name = ServerName::try_from(tls::HOST)?;
                    handshake(tls.connect(name, stream).await?).await?
                }
            });
        }
        Ok(client)
    }

    /// Makes a call over a connection (they count from 0, and around), and checks the reply.
    pub(crate) async fn call(&self, connection: usize) -> Fallible<()> {
        let connection = &self.connections[connection % self.connections.len()];
        let mut connection = connection.clone().ready().await?;
        let (response, mut stream) = connection.send_request(self.request.clone(), false)?;
        let keyed = self.feature.next_request_id().map(request_frame);
        stream.send_data(keyed.unwrap_or_else(|| self.frame.clone()), true)?;
        let response = response.await?;
        if response.status() != http::StatusCode::OK {
            return Err("an HTTP status other than 200".into());
        }
        if response.headers().contains_key("grpc-status") {
            return Err("a failure without a message".into());
        }
        let mut body = response.into_body();
        self.check_message(&mut body).await?;
        check_trailers(body.trailers().await?.as_ref())
    }

    async fn check_message(&self, body: &mut RecvStream) -> Fallible<()> {
        let mut expected = &self.expected[..];
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            expected = expected.strip_prefix(&data[..]).ok_or("a wrong reply")?;
        }
        expected
            .is_empty()
            .then_some(())
            .ok_or_else(|| "a reply cut short".into())
    }
}

fn check_trailers(trailers: Option<&HeaderMap>) -> Fallible<()> {
    match trailers.and_then(|trailers| trailers.get("grpc-status")) {
        Some(status) if status == "0" => Ok(()),
        _ => Err("not OK by its trailers".into()),
    }
}

fn request(path: &str, tls: bool, authorization: Option<&str>) -> Fallible<Request<()>> {
    let scheme = if tls { "https" } else { "http" };
    let mut request = Request::post(format!("{scheme}://{}{path}", tls::HOST))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, "grpc-rust-roundtrip/0");
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    Ok(request.body(())?)
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> Fallible<SendRequest<Bytes>> {
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake(stream)
        .await?;
    tokio::task::spawn_local(async move {
        // A connection that ends ends: its calls fail, and are counted.
        let _ = connection.await;
    });
    Ok(sender)
}
