//! The program's way to OnboardFlow, by its flags and the environment's variables.

use std::{collections::HashSet, sync::Arc, time::Duration};

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tonic::Status;

use crate::support::{
    CREATED, Process, Upstream,
    certificates::{Authority, Secret},
    create_request, program, response, told,
};

const PATIENCE: Duration = Duration::from_secs(60);

async fn serve(upstream: &str, flags: &[&str], variables: &[(&str, &str)]) -> Process {
    let args = [&["serve", "--upstream-url", upstream], flags].concat();
    let variables = [&[("ONBOARDFLOW_TOKEN", "a-key")], variables].concat();
    Process::run(&args, &variables).await
}

async fn create(gateway: &Process) -> Result<(), Status> {
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.map(drop)
}

/// An OnboardFlow with a certificate that this authority issued; its URL.
async fn with_certificate_of(ca: &Authority) -> String {
    let leaf = ca.issue(&["localhost"]);
    let chain = vec![CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(acceptor.clone(), stream));
        }
    });
    format!("https://localhost:{port}")
}

/// Answers one request, once its JSON document is whole.
async fn answer(acceptor: TlsAcceptor, stream: TcpStream) {
    // A gateway that doesn't trust the certificate goes.
    let Ok(mut stream) = acceptor.accept(stream).await else {
        return;
    };
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        if stream.read_buf(&mut request).await.unwrap() == 0 {
            return;
        }
    }
    let reply = response(200, &[], CREATED);
    stream.write_all(&reply).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_ca_of_upstream_ca_is_trusted_and_no_other() {
    let (ca, other) = (Authority::new(), Authority::new());
    let upstream = with_certificate_of(&ca).await;
    let files = Secret::new(&[("ca.crt", &ca.pem()), ("other.crt", &other.pem())]);
    for (name, trusted) in [("ca.crt", true), ("other.crt", false)] {
        let flag = format!("--upstream-ca={}", files.path(name).display());
        let gateway = serve(&upstream, &[&flag], &[]).await;
        let answer = create(&gateway).await;
        if trusted {
            answer.unwrap();
        } else {
            assert_eq!(told(&answer.unwrap_err()).reason, "UPSTREAM_UNREACHABLE");
        }
    }
}

/// A proxy that lets nobody through, and tells what it was asked for.
async fn proxy() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, asks) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let _ = asked.send(line);
            let _ = stream
                .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    });
    (url, asks)
}

#[tokio::test]
async fn https_proxy_is_asked_for_a_tunnel_and_no_proxy_exempts_from_it() {
    let (proxy, mut asks) = proxy().await;
    let through = [("HTTPS_PROXY", proxy.as_str())];
    let gateway = serve("https://api.invalid", &[], &through).await;
    let refused = create(&gateway).await.unwrap_err();
    assert_eq!(told(&refused).reason, "UPSTREAM_UNREACHABLE");
    let asked = timeout(PATIENCE, asks.recv()).await.unwrap().unwrap();
    assert!(asked.starts_with("CONNECT api.invalid:443 "), "{asked}");
    drop(gateway);
    while asks.try_recv().is_ok() {}

    let past = [through[0], ("NO_PROXY", "api.invalid")];
    let gateway = serve("https://api.invalid", &[], &past).await;
    let refused = create(&gateway).await.unwrap_err();
    assert_eq!(told(&refused).write, "not_sent");
    assert!(asks.try_recv().is_err(), "the proxy was asked");
}

/// Keys of callers' tokens, spans and metrics go the way of the calls.
#[tokio::test]
async fn all_else_by_http_goes_through_the_proxy_too() {
    let (proxy, mut asks) = proxy().await;
    let environment = [
        ("HTTPS_PROXY", proxy.as_str()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.invalid"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
    ];
    let keys = ["--jwks-url=https://keys.invalid/jwks", "--jwt-issuer=i"];
    let args = [
        &[
            "serve",
            "--listen=127.0.0.1:0",
            "--admin-listen=127.0.0.1:0",
        ],
        &keys[..],
        &["--jwt-audience=a"],
    ];
    let variables = [&[("ONBOARDFLOW_TOKEN", "a-key")], &environment[..]].concat();
    let _child = program(&args.concat(), &variables).spawn().unwrap();
    let mut awaited = HashSet::from(["keys.invalid", "collector.invalid"]);
    let all = async {
        while !awaited.is_empty() {
            let asked = asks.recv().await.unwrap();
            awaited.retain(|host| !asked.starts_with(&format!("CONNECT {host}:443 ")));
        }
    };
    let all = timeout(PATIENCE, all).await;
    all.expect("both are asked for at the proxy");
}

#[tokio::test]
async fn four_fifths_of_the_daily_quota_are_warned_of_once() {
    let upstream = Upstream::answering(200, CREATED).await;
    let url = upstream.url();
    let mut gateway = serve(url.as_str(), &["--daily-quota=5"], &[]).await;
    for _ in 0..3 {
        create(&gateway).await.unwrap();
    }
    create(&gateway).await.unwrap();
    let line = gateway.line_with("four fifths").await;
    assert_eq!(
        (&line["level"], &line["calls"], &line["key"]),
        (&"WARN".into(), &4.into(), &"default".into())
    );
    create(&gateway).await.unwrap();
    let refused = told(&create(&gateway).await.unwrap_err());
    assert_eq!(refused.reason, "UPSTREAM_QUOTA_EXHAUSTED");
    let next = gateway.line_with("onboardflow").await;
    assert_eq!(next["reason"], "UPSTREAM_QUOTA_EXHAUSTED", "{next}");
}
