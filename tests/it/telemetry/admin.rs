//! The admin port.

use std::{net::SocketAddr, time::Duration};

use onboardflow_gateway::{
    admin::Admin,
    config::{Location, LogConfig, LogFormat},
    ledger::Ledger,
    proto::CreateCustomerRequest,
    server::Health,
    telemetry::{LedgerMetrics, Metrics, logs},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::support::{
    Config, Gateway, Upstream, assert_clean, create_request, fresh_id, http, http_with,
    peer::{DATA, END_HEADERS, HEADERS, Peer, SETTINGS, frame, headers},
};

/// The admin port of a gateway with this health, and no log but one that goes nowhere.
async fn admin(health: &Health, metrics: &Metrics) -> SocketAddr {
    admin_with(health, metrics, None).await
}

async fn admin_with(health: &Health, metrics: &Metrics, ledger: Option<Ledger>) -> SocketAddr {
    let config = LogConfig {
        format: LogFormat::Json,
        filter: "info".parse().unwrap(),
    };
    let (subscriber, log) = logs::subscriber(&config, logs::Reader::Program, std::io::sink);
    // Without it the handle would have nothing to change.
    Box::leak(Box::new(subscriber));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let admin = Admin {
        metrics: metrics.clone(),
        health: health.clone(),
        log,
        ledger,
        config: r#"{"listen":"here"}"#.into(),
    };
    tokio::spawn(admin.serve(listener));
    address
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    http("GET", address, path, "").await
}

#[tokio::test]
async fn ready_follows_the_listener_and_not_the_upstream() {
    let health = Health::new([]).await;
    let early = admin(&health, &Metrics::new()).await;
    assert_eq!(get(early, "/livez").await.0, 200);
    assert_eq!(get(early, "/readyz").await.0, 503);

    let gateway = Gateway::before(crate::support::nobody().await).await;
    let address = admin(&gateway.handles.health, &gateway.handles.telemetry.metrics).await;
    gateway
        .client()
        .await
        .create_customer(create_request())
        .await
        .unwrap_err();
    assert_eq!(get(address, "/readyz").await.0, 200);

    let health = gateway.handles.health.clone();
    gateway.stop().await;
    assert!(!health.is_ready());
    assert_eq!(get(address, "/readyz").await.0, 503);
    assert_eq!(get(address, "/livez").await.0, 200);
}

#[tokio::test]
async fn it_speaks_grpc_health_and_no_customer_calls() {
    let upstream = Upstream::answering(200, "{}").await;
    let gateway = Gateway::before(upstream.url()).await;
    gateway.client().await; // so that it listens
    let address = admin(&gateway.handles.health, &gateway.handles.telemetry.metrics).await;
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();

    let mut health = HealthClient::new(channel.clone());
    let answer = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(answer.into_inner().status, 1);

    let mut customers =
        onboardflow_gateway::proto::customer_service_client::CustomerServiceClient::new(channel);
    let status = customers
        .create_customer(create_request())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(upstream.received().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn metrics_config_and_log_are_shown() {
    let health = Health::new([]).await;
    let address = admin(&health, &Metrics::new()).await;

    let (status, metrics) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("process_resident_memory_bytes "),
        "{metrics}"
    );
    assert!(
        metrics.contains("onboardflow_gateway_build_info{version="),
        "{metrics}"
    );
    assert_eq!(
        get(address, "/config").await,
        (200, r#"{"listen":"here"}"#.to_owned())
    );

    assert_eq!(get(address, "/log").await.1, "info\n");
    let set = |filter| http("PUT", address, "/log", filter);
    assert_eq!(set("debug").await.0, 204);
    assert_eq!(get(address, "/log").await.1, "debug\n");
    assert_eq!(set("no=such=filter").await.0, 400);
    assert_eq!(get(address, "/log").await.1, "debug\n");
    assert_eq!(get(address, "/nothing").await.0, 404);
}

/// A kubelet that gets no answer kills the pod.
#[tokio::test]
async fn idle_connections_kept_probes_from_being_answered() {
    let address = admin(&Health::new([]).await, &Metrics::new()).await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    let probe = tokio::time::timeout(Duration::from_secs(5), get(address, "/livez"));
    assert_eq!(probe.await.expect("an answer").0, 200);
}

#[tokio::test]
async fn a_flood_from_another_address_ends_no_probe() {
    let address = admin(&Health::new([]).await, &Metrics::new()).await;
    let mut probe = TcpStream::connect(address).await.unwrap();
    probe.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..300 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        flood.push(socket.connect(address).await.unwrap());
    }
    // It was accepted after all of them.
    assert_eq!(get(address, "/livez").await.0, 200);
    let rest = b"host: localhost\r\nconnection: close\r\n\r\n";
    probe.write_all(rest).await.unwrap();
    let mut answer = String::new();
    let read = probe.read_to_string(&mut answer);
    let read = tokio::time::timeout(Duration::from_secs(60), read).await;
    read.expect("an answer in time").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_misspelt_level_switched_the_log_off() {
    let address = admin(&Health::new([]).await, &Metrics::new()).await;
    for filter in ["inof", "", "info,", "warn onboardflow_gateway=debug"] {
        assert_eq!(
            http("PUT", address, "/log", filter).await.0,
            400,
            "{filter}"
        );
        assert_eq!(get(address, "/log").await.1, "info\n");
    }
    let precise = "warn,onboardflow_gateway::upstream=debug";
    assert_eq!(http("PUT", address, "/log", precise).await.0, 204);
}

/// `EnvFilter` compiled a field's value as a regex: 147 bytes of it took a minute and 3.3 GiB.
#[tokio::test]
async fn a_log_filter_has_no_regex_and_a_bound() {
    let address = admin(&Health::new([]).await, &Metrics::new()).await;
    let set = async |filter: &str| http("PUT", address, "/log", filter).await.0;
    for filter in [
        r#"[{code="(a{9}){9}"}]=debug"#,
        "[call]=debug",
        "onboardflow_gateway[{code}]=debug",
        "a.*=debug",
    ] {
        assert_eq!(set(filter).await, 400, "{filter}");
    }
    let longest = format!("info,{}=debug", "a".repeat(1024 - "info,=debug".len()));
    assert_eq!(set(&longest).await, 204);
    assert_eq!(set(&format!("{longest} ")).await, 400, "a byte more");
}

/// A page that a browser on this machine shows reaches the port by a name of its own (DNS rebinding).
#[tokio::test]
async fn no_page_in_a_browser_commands() {
    let address = admin(&Health::new([]).await, &Metrics::new()).await;
    let port = address.port();
    let set = async |headers: &str| {
        let headers = format!("{headers}\r\n");
        let (status, _) = http_with(&headers, "PUT", address, "/log", "debug").await;
        status
    };
    for headers in [
        format!("host: evil.example:{port}"),
        format!("host: localhost.evil.example:{port}"),
        format!("host: {address}\r\norigin: http://evil.example"),
        format!("host: {address}\r\norigin: null"),
        "x-no: host".to_owned(),
    ] {
        assert_eq!(set(&headers).await, 403, "{headers}");
    }
    assert_eq!(get(address, "/log").await.1, "info\n");
    for host in ["localhost", "LOCALHOST.", "[::1]", "127.0.0.1", "10.0.0.7"] {
        assert_eq!(set(&format!("host: {host}:{port}")).await, 204, "{host}");
    }
    let origin = format!("host: {address}\r\norigin: http://{address}\r\n");
    let (status, _) = http_with(&origin, "GET", address, "/config", "").await;
    assert_eq!(status, 403, "an Origin anywhere");
}

#[tokio::test]
async fn a_page_without_scripts_shows_what_waits_for_a_person() {
    let directory = tempfile::tempdir().unwrap();
    let place = Location::Sqlite(directory.path().join("ledger.db"));
    let upstream = Upstream::saying("").await;
    let mut config = Config::new(upstream.url());
    config.upstream.daily_quota = Some(50);
    config.ledger = Some(Ledger::new(&place, LedgerMetrics::default()).unwrap());
    let gateway = Gateway::start(config).await;
    let request_id = "b6f3f1d2-0c6e-4d7a-9a51-3f0a2f6f8f10";
    let request = CreateCustomerRequest {
        request_id: request_id.to_owned(),
        ..create_request()
    };
    gateway.create(request).await.unwrap_err();

    let ledger = Ledger::new(&place, LedgerMetrics::default()).unwrap();
    let id = ledger.list(true).await.unwrap()[0].id.clone();
    let metrics = &gateway.handles.telemetry.metrics;
    let address = admin_with(&gateway.handles.health, metrics, Some(ledger)).await;
    let (status, page) = get(address, "/").await;
    assert_eq!(status, 200);
    for shown in [
        "It takes calls",
        "b6f3f1d2…",
        &format!("ledger settle {id} --not-applied"),
        "1 of 50",
        "Unknown",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(
        !page.contains("<script") && !page.contains(request_id),
        "{page}"
    );
    assert_clean("page", &page);
    gateway.stop().await;
}

/// Nothing else counts them here.
#[tokio::test]
async fn the_ledgers_rows_are_counted_when_the_metrics_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let place = Location::Sqlite(directory.path().join("ledger.db"));
    let upstream = Upstream::saying("").await;
    let mut config = Config::new(upstream.url());
    config.ledger = Some(Ledger::new(&place, LedgerMetrics::default()).unwrap());
    let gateway = Gateway::start(config).await;
    let metrics = &gateway.handles.telemetry.metrics;
    let ledger = Ledger::new(&place, metrics.ledger()).unwrap();
    let address = admin_with(&gateway.handles.health, metrics, Some(ledger)).await;
    let patience = Duration::from_secs(60);
    for unknown in 1..=2 {
        let request = CreateCustomerRequest {
            request_id: fresh_id(),
            ..create_request()
        };
        gateway.create(request).await.unwrap_err();
        let line = format!("onboardflow_gateway_ledger_entries{{state=\"unknown\"}} {unknown}\n");
        let is_shown = async {
            // A count serves for a second.
            while !get(address, "/metrics").await.1.contains(&line) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(patience, is_shown).await.expect(&line);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn health_on_the_admin_port_has_the_limits_of_the_other() {
    let health = Health::new([]).await;
    let address = admin(&health, &Metrics::new()).await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = HealthClient::new(channel.connect().await.unwrap());
    for (bytes, code) in [(4093, Code::NotFound), (4094, Code::OutOfRange)] {
        let service = "x".repeat(bytes);
        let status = client.check(HealthCheckRequest { service }).await;
        assert_eq!(status.unwrap_err().code(), code, "{bytes}");
    }

    let mut peer = Peer::connect(address).await;
    peer.greet(&[]).await;
    let settings = peer.frame_of(SETTINGS).await.payload;
    let streams = [0, 3, 0, 0, 0, 16];
    assert!(settings.chunks(6).any(|setting| setting == streams));
    // What is half there is answered all the same.
    let path = "/grpc.health.v1.Health/Check";
    peer.send(&frame(HEADERS, END_HEADERS, 1, &headers(path)))
        .await;
    peer.send(&frame(DATA, 0, 1, &[0, 0, 0, 0, 9, 10])).await;
    peer.frame_of(HEADERS).await;
}
