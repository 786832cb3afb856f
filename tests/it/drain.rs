//! The end: told to stop, and gone in time whatever peers do.

use std::time::Duration;

use onboardflow_gateway::proto::CreateCustomerRequest;
use tokio::{
    io::AsyncWriteExt as _,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    CREATED, Config, Gateway, Process, Upstream, create_request,
    peer::{GOAWAY, Peer, call},
    response, told,
};

/// An upstream that says that a request has come, and answers it after this time.
async fn slow(pause: Duration) -> (Upstream, mpsc::UnboundedReceiver<()>) {
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let upstream = Upstream::with(move |mut stream| {
        let arrived = arrived.clone();
        async move {
            let _ = arrived.send(());
            sleep(pause).await;
            let _ = stream.write_all(&response(200, &[], CREATED)).await;
        }
    });
    (upstream.await, arrivals)
}

async fn ask(client: &mut HealthClient<Channel>) -> ServingStatus {
    let answer = client.check(HealthCheckRequest::default()).await;
    answer.unwrap().into_inner().status()
}

#[tokio::test]
async fn watchers_are_told_and_new_connections_served_during_the_delay() {
    let (upstream, _arrivals) = slow(Duration::ZERO).await;
    let mut config = Config::new(upstream.url());
    config.server.drain_delay = Duration::from_millis(500);
    let mut gateway = Gateway::start(config).await;
    let mut health = HealthClient::new(gateway.channel().await);
    assert_eq!(ask(&mut health).await, ServingStatus::Serving);
    assert!(gateway.handles.health.is_ready());
    let mut watches = Vec::new();
    for service in ["", "onboardflow.customer.v1.CustomerService"] {
        let service = service.to_owned();
        let watch = health.watch(HealthCheckRequest { service }).await;
        let mut watch = watch.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        watches.push(watch);
    }

    gateway.tell_to_stop();
    for watch in &mut watches {
        let told = watch.message().await.unwrap().unwrap();
        assert_eq!(told.status(), ServingStatus::NotServing);
    }
    assert!(!gateway.handles.health.is_ready());
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.unwrap();
    // After the delay, a Watch doesn't hold up the end.
    for watch in &mut watches {
        let ended = watch.message().await.unwrap_err();
        assert_eq!(ended.code(), Code::Unavailable);
    }
    let address = gateway.address;
    timeout(Duration::from_secs(3), gateway.ended())
        .await
        .unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn calls_in_flight_finish_and_the_connection_goes_away() {
    let (upstream, mut arrivals) = slow(Duration::from_millis(500)).await;
    let mut gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    let call_in_flight =
        tokio::spawn(async move { client.create_customer(create_request()).await });
    arrivals.recv().await.unwrap();
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    peer.send(&call(1, &create_request())).await;
    arrivals.recv().await.unwrap();

    gateway.tell_to_stop();
    peer.frame_of(GOAWAY).await;
    call_in_flight.await.unwrap().unwrap();
    timeout(Duration::from_secs(4), gateway.ended())
        .await
        .unwrap();
}

#[tokio::test]
async fn nothing_that_a_peer_does_holds_up_the_end() {
    let (upstream, mut arrivals) = slow(Duration::from_secs(600)).await;
    let mut config = Config::new(upstream.url());
    config.server.drain_timeout = Duration::from_millis(1500);
    config.server.workers = 2;
    let mut gateway = Gateway::start(config).await;
    // A stuck upstream, an open Watch, and peers that are silent at every stage.
    let mut client = gateway.client().await;
    let stuck = tokio::spawn(async move { client.create_customer(create_request()).await });
    arrivals.recv().await.unwrap();
    let mut health = HealthClient::new(gateway.channel().await);
    let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
    let connected = Peer::connect(gateway.address).await;
    let mut half = Peer::connect(gateway.address).await;
    half.send(b"PRI * HTTP").await;
    let greeted = Peer::greeting(gateway.address, &[]).await;
    let mut calling = Peer::greeting(gateway.address, &[0, 4, 0, 0, 0, 0]).await;
    calling.send(&call(1, &create_request())).await;
    arrivals.recv().await.unwrap();

    gateway.tell_to_stop();
    let begun = Instant::now();
    // The write has left, so its fate is unknown, and no client may repeat it by itself.
    let told = told(&stuck.await.unwrap().unwrap_err());
    assert_eq!(told.code, Code::DeadlineExceeded);
    assert_eq!(told.write, "unknown");
    timeout(Duration::from_secs(4), gateway.ended())
        .await
        .unwrap();
    assert!(
        begun.elapsed() < Duration::from_millis(2500),
        "{:?}",
        begun.elapsed()
    );
    drop((watch, connected, half, greeted, calling));
}

#[tokio::test]
async fn a_peer_that_ignores_the_goaway_is_refused() {
    let (upstream, mut arrivals) = slow(Duration::from_secs(2)).await;
    let mut config = Config::new(upstream.url());
    config.server.drain_timeout = Duration::from_secs(3);
    let mut gateway = Gateway::start(config).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    peer.send(&call(1, &create_request())).await;
    arrivals.recv().await.unwrap();
    gateway.tell_to_stop();
    peer.frame_of(GOAWAY).await;
    // Without an answer to the ping behind it, the gateway takes calls that crossed it ...
    peer.send(&call(3, &create_request())).await;
    arrivals.recv().await.unwrap();
    // ... and not for ever.
    sleep(Duration::from_millis(1700)).await;
    peer.send(&call(5, &create_request())).await;
    peer.closed().await;
    assert!(arrivals.try_recv().is_err(), "it must not be sent");
    let refused = "onboardflow_gateway_refusals_total{reason=\"GATEWAY_DRAINING\"}";
    assert_eq!(gateway.metric(refused), 1);
    gateway.ended().await;
}

/// A sandbox, with a call in it that takes 90 seconds.
async fn stuck_sandbox(flags: &[&str]) -> Process {
    let sandbox = Process::run(&[&["sandbox"], flags].concat(), &[]).await;
    let mut client = sandbox.client().await;
    let request = CreateCustomerRequest {
        site_key: "sandbox-slow".to_owned(),
        ..create_request()
    };
    let mut second = client.clone();
    tokio::spawn(async move { client.create_customer(request).await });
    // On the same connection, so that the first has arrived when this one is answered.
    second.create_customer(create_request()).await.unwrap();
    sandbox
}

#[tokio::test]
async fn the_process_ends_well_after_the_drain_timeout() {
    for name in ["-TERM", "-INT"] {
        let flags = ["--drain-delay=100ms", "--drain-timeout=1s"];
        let sandbox = stuck_sandbox(&flags).await;
        sandbox.signal(name).await;
        assert_eq!(sandbox.ended().await.0, Some(0), "{name}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let mut sandbox = stuck_sandbox(&["--drain-timeout=1h"]).await;
    sandbox.signal("-TERM").await;
    // The first one has to be taken note of, or the system makes one of both.
    sandbox.line_with("draining").await;
    sandbox.signal("-TERM").await;
    assert_eq!(sandbox.ended().await.0, Some(1));
}
