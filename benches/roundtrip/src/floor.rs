//! The least that a gateway can do: hyper takes the call and reads it, makes one HTTP/1.1 request
//! on a connection that is kept, reads the reply, and answers with fixed bytes. Nothing is
//! translated, checked, timed, counted or logged. One worker a core, each with connections of its
//! own.

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::SendRequest,
    rt::{Read, Write},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::sync::mpsc;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    Fallible, ServerArgs, tls,
    worked_example::{REQUEST_JSON, Rpc, response_frame},
};

pub(crate) fn run(args: &ServerArgs) -> Fallible<()> {
    let floor = Floor::new(args)?;
    let listener = TcpListener::bind(args.listen)?;
    let workers: Vec<_> = (0..thread::available_parallelism()?.get())
        .map(|_| floor.clone().start_worker())
        .collect();
    for worker in workers.iter().cycle() {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        worker.send(stream)?;
    }
    Ok(())
}

#[derive(Clone)]
struct Floor {
    upstream: SocketAddr,
    inward: Option<TlsAcceptor>,
    outward: Option<TlsConnector>,
    /// Connections that wait for a request. Each worker has its own.
    idle: Arc<Mutex<Vec<SendRequest<Full<Bytes>>>>>,
    created: Bytes,
    updated: Bytes,
}

impl Floor {
    fn new(args: &ServerArgs) -> Fallible<Self> {
        let (mut inward, mut outward) = (None, None);
        if let Some(folder) = &args.tls {
            inward = Some(TlsAcceptor::from(tls::server(folder, b"h2")?));
            outward = Some(TlsConnector::from(tls::client(folder, b"http/1.1")?));
        }
        Ok(Self {
            upstream: args.upstream()?,
            inward,
            outward,
            idle: Arc::default(),
            created: response_frame(Rpc::Create),
            updated: response_frame(Rpc::Update),
        })
    }

    fn start_worker(mut self) -> mpsc::UnboundedSender<TcpStream> {
        self.idle = Arc::default();
        let (sender, mut streams) = mpsc::unbounded_channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                while let Some(stream) = streams.recv().await {
                    tokio::spawn(self.clone().serve(stream));
                }
            });
        });
        sender
    }

    async fn serve(self, stream: TcpStream) {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else {
            return;
        };
        match self.inward.clone() {
            None => self.serve_calls(TokioIo::new(stream)).await,
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    self.serve_calls(TokioIo::new(stream)).await;
                }
            }
        }
    }

    async fn serve_calls(self, stream: impl Read + Write + Unpin + Send + 'static) {
        let service = service_fn(move |request| self.clone().answer(request));
        // A connection that ends ends: the load says whether calls failed.
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(stream, service)
            .await;
    }

    async fn answer(
        self,
        call: Request<Incoming>,
    ) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
        let (method, frame) = if call.uri().path() == Rpc::Create.path() {
            (Method::POST, &self.created)
        } else {
            (Method::PUT, &self.updated)
        };
        let read = call.into_body().collect().await.is_ok();
        let is_answered = read && self.exchange(method).await.is_ok();
        let mut trailers = HeaderMap::with_capacity(1);
        let status = if is_answered { "0" } else { "14" };
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        let body = Full::new(frame.clone()).with_trailers(std::future::ready(Some(Ok(trailers))));
        let mut response = Response::new(body);
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        Ok(response)
    }

    async fn exchange(&self, method: Method) -> Fallible<()> {
        let request = Request::builder()
            .method(method)
            .uri("/api/v1/customer/")
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from_static(REQUEST_JSON.as_bytes())))?;
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let is_success = response.status().is_success();
        response.into_body().collect().await?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        is_success.then_some(()).ok_or_else(|| "refused".into())
    }

    async fn connect(&self) -> Fallible<SendRequest<Full<Bytes>>> {
        let stream = tokio::net::TcpStream::connect(self.upstream).await?;
        stream.set_nodelay(true)?;
        match &self.outward {
            None => handshake(TokioIo::new(stream)).await,
            Some(tls) => {
                let name = ServerName::try_from(tls::HOST)?;
                handshake(TokioIo::new(tls.connect(name, stream).await?)).await
            }
        }
    }
}

async fn handshake(
    stream: impl Read + Write + Unpin + Send + 'static,
) -> Fallible<SendRequest<Full<Bytes>>> {
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}
