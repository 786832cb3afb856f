//! An issuer of tokens: a real HTTP server with a set of keys and a discovery document.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
    serve::Listener,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::certificates::Leaf;

/// What the issuer says, which a test may change.
#[derive(Clone, Debug)]
pub struct Says {
    pub status: u16,
    pub keys: String,
    pub cache_control: &'static str,
    pub delay: Duration,
    /// What its discovery document calls it; itself unless another name is given.
    pub issuer: Option<String>,
    /// Where it sends whoever asks, in place of an answer.
    pub elsewhere: Option<String>,
}

/// A running issuer. It ends with the test's runtime.
#[derive(Clone)]
pub struct Issuer {
    pub url: String,
    says: Arc<Mutex<Says>>,
    asked: Arc<Mutex<Vec<(String, HeaderMap)>>>,
}

impl Issuer {
    /// With these keys, in plaintext.
    pub async fn with(keys: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self::serve(listener, format!("http://{address}"), keys)
    }

    /// The same over TLS, as `localhost`.
    pub async fn with_tls(keys: String, leaf: &Leaf) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        let listener = Tls {
            tcp,
            acceptor: acceptor(leaf),
        };
        Self::serve(listener, format!("https://localhost:{port}"), keys)
    }

    fn serve<L: Listener<Addr = SocketAddr>>(listener: L, url: String, keys: String) -> Self {
        let issuer = Self {
            url,
            says: Arc::new(Mutex::new(Says {
                status: 200,
                keys,
                cache_control: "max-age=3600",
                delay: Duration::ZERO,
                issuer: None,
                elsewhere: None,
            })),
            asked: Arc::default(),
        };
        let router = Router::new().fallback(answer).with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    pub fn change(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }

    /// The headers of each question for the keys so far.
    pub fn asked(&self) -> Vec<HeaderMap> {
        let asked = self.asked.lock().unwrap();
        let keys = asked.iter().filter(|(path, _)| path == "/keys");
        keys.map(|(_, headers)| headers.clone()).collect()
    }

    /// The number of questions so far, whatever they were for.
    pub fn questions(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    pub fn keys_url(&self) -> String {
        format!("{}/keys", self.url)
    }
}

async fn answer(State(issuer): State<Issuer>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    issuer.asked.lock().unwrap().push((path.clone(), headers));
    let says = issuer.says.lock().unwrap().clone();
    tokio::time::sleep(says.delay).await;
    if let Some(elsewhere) = says.elsewhere {
        return Redirect::temporary(&format!("{elsewhere}{path}")).into_response();
    }
    let body = match path.as_str() {
        // The second is where a Kubernetes API server has them.
        "/keys" | "/openid/v1/jwks" => says.keys,
        "/.well-known/openid-configuration" => {
            let named = says.issuer.unwrap_or_else(|| issuer.url.clone());
            let keys = issuer.keys_url();
            serde_json::json!({ "issuer": named, "jwks_uri": keys }).to_string()
        }
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let status = StatusCode::from_u16(says.status).unwrap();
    (status, [(header::CACHE_CONTROL, says.cache_control)], body).into_response()
}

struct Tls {
    tcp: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.tcp).await;
            // Whoever doesn't trust the certificate goes.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

fn acceptor(leaf: &Leaf) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
