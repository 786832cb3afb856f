//! The life of connections, and peers that do what no client does.

use std::time::Duration;

use onboardflow_gateway::telemetry::Closed;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    CREATED, Config, Gateway, Upstream, create_request, eventually,
    peer::{
        CONTINUATION, CREATE, END_HEADERS, GOAWAY, HEADERS, PING, Peer, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, call, frame, headers,
    },
};

/// Creates that began.
const STARTED: &str = "grpc_server_started_total{\
    grpc_service=\"onboardflow.customer.v1.CustomerService\",\
    grpc_method=\"CreateCustomer\",grpc_type=\"unary\"}";
const SHORT: Duration = Duration::from_millis(200);

/// A gateway before an upstream that is well, changed by this.
async fn gateway(change: impl Fn(&mut Config)) -> Gateway {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    change(&mut config);
    Gateway::start(config).await
}

/// Waits until a connection has been closed for this reason.
async fn closed(gateway: &Gateway, reason: Closed) {
    let patience = Instant::now() + Duration::from_secs(10);
    while gateway.closed(reason) == 0 {
        let so_far = Closed::ALL.map(|reason| gateway.closed(reason));
        assert!(Instant::now() < patience, "{reason:?}: {so_far:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// A gateway is as good as before: it takes calls.
async fn serves(gateway: &Gateway) {
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.unwrap();
}

#[tokio::test]
async fn http1_and_garbage_are_closed_at_once() {
    let gateway = gateway(|_| ()).await;
    for bytes in [
        "GET / HTTP/1.1\r\nhost: gateway\r\n\r\n",
        "\0\u{1}\u{2}garbage",
    ] {
        let begun = Instant::now();
        let mut peer = Peer::connect(gateway.address).await;
        peer.send(bytes.as_bytes()).await;
        peer.closed().await;
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
    closed(&gateway, Closed::Failed).await;
    serves(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn half_a_preface_is_closed() {
    let gateway = gateway(|config| config.server.connections.handshake_timeout = SHORT).await;
    for bytes in [&b""[..], b"PRI * HTT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut peer = Peer::connect(gateway.address).await;
        peer.send(bytes).await;
        peer.closed().await;
    }
    assert_eq!(gateway.closed(Closed::NoHandshake), 3);
    serves(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn headers_without_end_are_closed() {
    let gateway = gateway(|config| {
        config.server.connections.keepalive_interval = SHORT;
        config.server.connections.keepalive_timeout = SHORT;
    })
    .await;
    let begun = frame(HEADERS, 0, 1, &headers(CREATE));
    // In the middle of a frame's header, of its payload, and of the block.
    for bytes in [&begun[..4], &begun[..20], &begun] {
        let mut peer = Peer::greeting(gateway.address, &[]).await;
        peer.send(bytes).await;
        peer.closed().await;
    }

    let header = headers(CREATE);
    let more = frame(CONTINUATION, 0, 1, &header[header.len() - 13..]);
    for pause in [Duration::ZERO, SHORT / 4] {
        let mut peer = Peer::greeting(gateway.address, &[]).await;
        peer.send(&begun).await;
        let flooding = async {
            while peer.try_send(&more).await {
                sleep(pause).await;
            }
        };
        timeout(Duration::from_secs(5), flooding).await.unwrap();
    }
    serves(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn floods_are_closed() {
    let gateway = gateway(|_| ()).await;
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[]), (0xfa, &[])] {
        let mut peer = Peer::greeting(gateway.address, &[]).await;
        let mut sent = 0;
        while sent < 20_000 && peer.try_send(&frame(kind, 0, 0, payload)).await {
            sent += 1;
        }
        peer.closed().await;
    }
    assert_eq!(gateway.closed(Closed::Abusive), 3);
    serves(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn rapid_resets_are_closed() {
    let gateway = gateway(|config| config.server.max_in_flight = 16).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    let mut stream = 1;
    while stream < 40_000 {
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &headers(CREATE));
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        if !peer.try_send(&bytes).await {
            break;
        }
        stream += 2;
    }
    peer.closed().await;
    serves(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn calls_that_all_time_out_at_their_caller_cost_it_no_connection() {
    let upstream = Upstream::with(|mut stream| async move {
        // Until the gateway hangs up.
        let _ = tokio::io::AsyncReadExt::read_u8(&mut stream).await;
    })
    .await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    let mut next = 1;
    for _ in 0..15 {
        let streams: Vec<u32> = (0..100).map(|call| next + 2 * call).collect();
        next += 200;
        for stream in &streams {
            peer.send(&call(*stream, &create_request())).await;
        }
        let begun = u64::from(next / 2);
        let have_begun = || (gateway.metric(STARTED) == begun).then_some(());
        eventually("their begin", have_begun).await;
        sleep(SHORT).await;
        for stream in &streams {
            peer.send(&frame(RST_STREAM, 0, *stream, &8_u32.to_be_bytes()))
                .await;
        }
    }
    peer.send(&frame(PING, 0, 0, b"are you?")).await;
    while peer.frame_of(PING).await.payload != b"are you?" {}
    assert_eq!(gateway.closed(Closed::Abusive), 0);
    drop(peer);
    gateway.stop().await;
}

#[tokio::test]
async fn a_window_of_zero_is_closed() {
    let gateway = gateway(|config| {
        config.server.max_timeout = SHORT;
        config.server.default_timeout = SHORT;
        config.server.connections.answer_timeout = SHORT;
    })
    .await;
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let mut peer = Peer::greeting(gateway.address, &[0, 4, 0, 0, 0, 0]).await;
    peer.send(&call(1, &create_request())).await;
    peer.closed().await;
    closed(&gateway, Closed::Abusive).await;
    serves(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_closed() {
    let large = "x".repeat(900_000);
    let answer = CREATED.replace("1923c497cf0fc93ff63414795ec58c59d4ccab38", &large);
    let upstream = Upstream::answering(200, &answer).await;
    let mut config = Config::new(upstream.url());
    config.server.connections.stall_timeout = SHORT;
    let gateway = Gateway::start(config).await;
    let mut peer = Peer::connect_small(gateway.address).await;
    // The windows of HTTP/2 are wide open: it is TCP's that closes.
    peer.greet(&[0, 4, 0x7f, 0xff, 0xff, 0xff]).await;
    let whole = 0x7fff_ffff_u32 - 65_535;
    peer.send(&frame(WINDOW_UPDATE, 0, 0, &whole.to_be_bytes()))
        .await;
    for stream in 0..10 {
        peer.send(&call(2 * stream + 1, &create_request())).await;
    }
    closed(&gateway, Closed::Abusive).await;
    gateway.stop().await;
}

#[tokio::test]
async fn calls_without_end_whose_answers_nobody_reads_are_closed() {
    let gateway = gateway(|config| config.server.connections.stall_timeout = SHORT).await;
    let mut peer = Peer::connect_small(gateway.address).await;
    peer.greet(&[]).await;
    let mut stream = 1;
    while stream < 40_000 && peer.try_send(&call(stream, &())).await {
        stream += 2;
    }
    peer.closed().await;
    serves(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_closed() {
    let gateway = gateway(|config| {
        config.server.connections.keepalive_interval = SHORT;
        config.server.connections.keepalive_timeout = SHORT;
    })
    .await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    peer.frame_of(PING).await;
    peer.closed().await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_idle_connection_goes_away() {
    let gateway = gateway(|config| config.server.connections.max_idle = SHORT).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    peer.frame_of(GOAWAY).await;
    peer.closed().await;
    closed(&gateway, Closed::Idle).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_connection_with_a_call_is_not_idle() {
    let upstream = Upstream::with(|mut stream| async move {
        sleep(SHORT * 4).await;
        let answer = crate::support::response(200, &[], CREATED);
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &answer).await;
    })
    .await;
    let mut config = Config::new(upstream.url());
    config.server.connections.max_idle = SHORT;
    let gateway = Gateway::start(config).await;
    serves(&gateway).await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_old_connection_goes_away_and_its_calls_finish() {
    let upstream = Upstream::with(|mut stream| async move {
        sleep(SHORT * 4).await;
        let answer = crate::support::response(200, &[], CREATED);
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &answer).await;
    })
    .await;
    let mut config = Config::new(upstream.url());
    config.server.connections.max_age = SHORT;
    let gateway = Gateway::start(config).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    peer.send(&call(1, &create_request())).await;

    // In this order: the call was in flight.
    peer.frame_of(GOAWAY).await;
    let answer = peer.frame_of(HEADERS).await;
    assert_eq!(answer.stream, 1);
    peer.closed().await;
    closed(&gateway, Closed::Aged).await;
    gateway.stop().await;
}

#[tokio::test]
async fn the_grace_of_an_old_connection_ends() {
    let upstream = Upstream::with(|stream| async move {
        sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    let mut config = Config::new(upstream.url());
    config.server.connections.max_age = SHORT;
    config.server.connections.max_age_grace = SHORT;
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    let status = client.create_customer(create_request()).await.unwrap_err();
    // Not UNAVAILABLE, which a client would repeat: the create has left.
    let told = crate::support::told(&status);
    assert_eq!(told.reason, "DEADLINE_EXCEEDED");
    assert_eq!(told.write, "unknown");
    gateway.stop().await;
}

#[tokio::test]
async fn limits_are_told_to_the_peer() {
    let gateway = gateway(|_| ()).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    let settings = peer.frame_of(SETTINGS).await.payload;
    let setting = |id: u16| {
        let mut all = settings.chunks(6);
        let found = all.find(|setting| setting[..2] == id.to_be_bytes())?;
        Some(u32::from_be_bytes(found[2..].try_into().unwrap()))
    };
    assert_eq!(setting(3), Some(256), "concurrent streams");
    assert_eq!(setting(6), Some(16 << 10), "header list");
    gateway.stop().await;
}

#[tokio::test]
async fn headers_that_are_too_much_are_refused_and_the_connection_stays() {
    let gateway = gateway(|_| ()).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    let mut block = headers(CREATE);
    // A literal of 17,000 bytes: 127 in the prefix, and the rest in sevens of bits.
    block.extend([0, 7]);
    block.extend(b"x-large");
    block.extend([127, 0xe9, 0x83, 1]);
    block.extend("x".repeat(17_000).bytes());
    let (first, rest) = block.split_at(16_000);
    peer.send(&frame(HEADERS, 0, 1, first)).await;
    peer.send(&frame(CONTINUATION, END_HEADERS, 1, rest)).await;
    peer.send(&call(3, &create_request())).await;
    while peer.frame_of(HEADERS).await.stream != 3 {}
    assert_eq!(gateway.connections(), (1, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn streams_that_are_too_many_are_refused_and_the_connection_stays() {
    const REFUSED_STREAM: u32 = 7;
    let upstream = Upstream::with(|mut stream| async move {
        // Until the gateway hangs up.
        let _ = tokio::io::AsyncReadExt::read_u8(&mut stream).await;
    })
    .await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    for stream in 0..257 {
        peer.send(&call(2 * stream + 1, &create_request())).await;
    }
    let reset = peer.frame_of(RST_STREAM).await;
    assert_eq!(reset.stream, 513);
    assert_eq!(reset.payload, REFUSED_STREAM.to_be_bytes());
    assert_eq!(gateway.connections(), (1, 1));
    drop(peer);
    gateway.stop().await;
}

#[tokio::test]
async fn connections_spread_over_workers() {
    let gateway = gateway(|config| config.server.workers = 3).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = gateway.client().await;
        client.create_customer(create_request()).await.unwrap();
        clients.push(client);
    }
    for worker in 0..3 {
        let open = format!("onboardflow_gateway_connections{{worker=\"{worker}\"}}");
        assert_eq!(gateway.metric(&open), 2);
    }
    drop(clients);
    gateway.stop().await;
}

#[tokio::test]
async fn connections_have_a_limit_and_idle_ones_go_first() {
    let gateway = gateway(|config| config.server.connections.max_open = 8).await;
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..50 {
        flood.push(Peer::greeting(gateway.address, &[]).await);
    }
    let all_came = || (gateway.connections().0 >= 51).then_some(());
    eventually("the flood", all_came).await;
    // A probe of what is left: never more than the limit.
    let within = || (gateway.connections().1 <= 8).then_some(());
    eventually("the limit", within).await;
    assert!(gateway.closed(Closed::Crowded) >= 43);
    // The one that has had a call goes after all that never had any.
    client.create_customer(create_request()).await.unwrap();
    serves(&gateway).await;
    assert_eq!(gateway.connections().0, 52);
    drop(flood);
    gateway.stop().await;
}
