//! TLS on the gRPC port, and files that change.

use std::{sync::Arc, time::Duration};

use onboardflow_gateway::{
    proto::customer_service_client::CustomerServiceClient, telemetry::Closed,
};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, ClientTlsConfig, Error};

use crate::support::{
    CREATED, Config, Gateway, Upstream,
    certificates::{Authority, Leaf, Secret},
    create_request,
    peer::Peer,
};

/// What clients know the gateway as.
pub const NAME: &str = "gateway.test";

/// A gateway with the certificate in this secret.
pub async fn gateway(secret: &Secret, demands_certificates: bool) -> Gateway {
    gateway_with(secret, demands_certificates, |_| ()).await
}

pub async fn gateway_with(
    secret: &Secret,
    demands_certificates: bool,
    change: impl Fn(&mut Config),
) -> Gateway {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.server.tls = Some(secret.files(demands_certificates));
    config.server.reload_interval = Duration::from_millis(50);
    change(&mut config);
    Gateway::start(config).await
}

pub async fn connect(
    gateway: &Gateway,
    ca: &Authority,
    identity: Option<&Leaf>,
) -> Result<CustomerServiceClient<Channel>, Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(ca.certificate())
        .domain_name(NAME);
    if let Some(leaf) = identity {
        tls = tls.identity(leaf.identity());
    }
    let endpoint = Channel::from_shared(format!("https://{}", gateway.address)).unwrap();
    let channel = endpoint.tls_config(tls)?.connect().await?;
    Ok(CustomerServiceClient::new(channel))
}

/// What a TLS client with this version and protocol comes to.
pub async fn handshake(
    gateway: &Gateway,
    ca: &Authority,
    version: &'static SupportedProtocolVersion,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(gateway.address).await?;
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?;
    stream.flush().await?;
    Ok(stream)
}

/// Waits until the gateway presents this certificate.
pub async fn presented(gateway: &Gateway, ca: &Authority, leaf: &Leaf) {
    let leaf = CertificateDer::from_pem_slice(leaf.cert.as_bytes()).unwrap();
    until("the certificate is presented", async || {
        let stream = handshake(gateway, ca, &TLS13, b"h2").await;
        stream.is_ok_and(|stream| stream.get_ref().1.peer_certificates().unwrap()[0] == leaf)
    })
    .await;
}

/// Waits until this is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < patience, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn tls_1_2_and_1_3_and_nothing_but_h2() {
    let ca = Authority::new();
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let gateway = gateway(&secret, false).await;
    for version in [&TLS12, &TLS13] {
        let stream = handshake(&gateway, &ca, version, b"h2").await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(session.protocol_version(), Some(version.version));
        let refused = handshake(&gateway, &ca, version, b"http/1.1").await;
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    }
    let mut client = connect(&gateway, &ca, None).await.unwrap();
    client.create_customer(create_request()).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn clients_know_the_gateway_by_its_certificate() {
    let (ca, other) = (Authority::new(), Authority::new());
    for leaf in [
        ca.issue(&["elsewhere.test"]),
        ca.issue_expired(&[NAME]),
        other.issue(&[NAME]),
    ] {
        let secret = Secret::tls(&leaf, &ca);
        let gateway = gateway(&secret, false).await;
        assert!(connect(&gateway, &ca, None).await.is_err());
        gateway.stop().await;
    }
}

#[tokio::test]
async fn client_certificates_are_demanded_and_checked() {
    let (ca, other) = (Authority::new(), Authority::new());
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let gateway = gateway(&secret, true).await;
    let expired = ca.issue_expired(&["web.test"]);
    let foreign = other.issue(&["web.test"]);
    for identity in [None, Some(&expired), Some(&foreign)] {
        // In TLS 1.3 a client learns of the refusal when it reads.
        let outcome = match connect(&gateway, &ca, identity).await {
            Ok(mut client) => client.create_customer(create_request()).await.is_ok(),
            Err(_) => false,
        };
        assert!(!outcome);
    }
    let web = ca.issue(&["web.test"]);
    let mut client = connect(&gateway, &ca, Some(&web)).await.unwrap();
    client.create_customer(create_request()).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_hello_and_nothing_is_closed() {
    let ca = Authority::new();
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let gateway = gateway_with(&secret, false, |config| {
        config.server.connections.handshake_timeout = Duration::from_millis(200);
    })
    .await;
    for bytes in [&b""[..], &[22, 3, 1, 2, 0, 1, 0, 1, 252]] {
        let mut peer = Peer::connect(gateway.address).await;
        peer.send(bytes).await;
        peer.closed().await;
    }
    assert_eq!(gateway.closed(Closed::NoHandshake), 2);
    let mut peer = Peer::connect(gateway.address).await;
    peer.send(b"GET / HTTP/1.1\r\n\r\n").await;
    peer.closed().await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_connections_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let secret = Secret::tls(&old.issue(&[NAME]), &old);
    let gateway = gateway(&secret, false).await;
    let mut before = connect(&gateway, &old, None).await.unwrap();
    before.create_customer(create_request()).await.unwrap();

    let leaf = new.issue(&[NAME]);
    secret.swap_tls(&leaf, &new);
    presented(&gateway, &new, &leaf).await;
    assert!(connect(&gateway, &old, None).await.is_err());
    let mut after = connect(&gateway, &new, None).await.unwrap();
    after.create_customer(create_request()).await.unwrap();
    let opened = gateway.connections().0;
    before.create_customer(create_request()).await.unwrap();
    assert_eq!(
        gateway.connections().0,
        opened,
        "it has had to connect again"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn broken_files_leave_the_old_ones_in_use() {
    let ca = Authority::new();
    let (leaf, other) = (ca.issue(&[NAME]), ca.issue(&[NAME]));
    let secret = Secret::tls(&leaf, &ca);
    let gateway = gateway(&secret, true).await;
    let failures = || {
        let name = "onboardflow_gateway_secret_reload_failures_total";
        gateway.metric(&format!("{name}{{secret=\"certificate\"}}"))
    };
    let stale = || gateway.metric("onboardflow_gateway_secret_stale{secret=\"certificate\"}");
    assert_eq!(stale(), 0);
    let pem = ca.pem();
    let broken: [[(&str, &str); 3]; 4] = [
        [
            ("tls.crt", "garbage"),
            ("tls.key", &leaf.key),
            ("ca.crt", &pem),
        ],
        [
            ("tls.crt", &leaf.cert),
            ("tls.key", &other.key),
            ("ca.crt", &pem),
        ],
        [("tls.crt", &leaf.cert), ("tls.key", ""), ("ca.crt", &pem)],
        [
            ("tls.crt", &leaf.cert),
            ("tls.key", &leaf.key),
            ("ca.crt", ""),
        ],
    ];
    for (index, files) in (1..).zip(broken) {
        secret.swap(&files);
        let noticed = async || failures() == index;
        until(&format!("noticed {index}"), noticed).await;
        assert_eq!(stale(), 1);
        let mut client = connect(&gateway, &ca, Some(&leaf)).await.unwrap();
        client.create_customer(create_request()).await.unwrap();
    }
    let expires = "onboardflow_gateway_secret_expires_timestamp_seconds";
    assert!(gateway.metric(&format!("{expires}{{secret=\"certificate\"}}")) > 0);

    secret.swap_tls(&other, &ca);
    presented(&gateway, &ca, &other).await;
    until("fresh again", async || stale() == 0).await;
    let mut client = connect(&gateway, &ca, Some(&leaf)).await.unwrap();
    client.create_customer(create_request()).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_ca_that_is_taken_out_is_out() {
    let (old, new) = (Authority::new(), Authority::new());
    let secret = Secret::tls(&old.issue(&[NAME]), &old);
    let gateway = gateway(&secret, true).await;
    let caller = old.issue(&["web.test"]);
    connect(&gateway, &old, Some(&caller)).await.unwrap();

    let leaf = old.issue(&[NAME]);
    secret.swap_tls(&leaf, &new);
    presented(&gateway, &old, &leaf).await;
    let before = gateway.closed(Closed::TlsFailed);
    let refused = async {
        let mut client = connect(&gateway, &old, Some(&caller)).await.ok()?;
        client.create_customer(create_request()).await.ok()
    };
    let refused = timeout(Duration::from_secs(30), refused).await.unwrap();
    assert!(refused.is_none());
    until("the certificate is what is refused", async || {
        gateway.closed(Closed::TlsFailed) > before
    })
    .await;
    gateway.stop().await;
}
