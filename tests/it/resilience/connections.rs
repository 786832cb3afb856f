//! Connections: kept, stale, shared, tunnelled, encrypted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Barrier,
    time::{advance, sleep},
};
use tower::{service_fn, util::BoxCloneSyncService};
use url::Url;

use crate::support::{
    CREATED, Chance, Config, Fault, Faulty, Gateway, Http2, Manner, Upstream, acceptor, answer,
    create_request, resolver, told, update_request,
};

/// It was given half of its time from before it had a connection, and so none to use it.
#[tokio::test]
async fn an_update_gets_its_share_of_the_time_once_it_has_a_connection() {
    let upstream = Upstream::answering(200, CREATED).await;
    let address = *upstream
        .url()
        .socket_addrs(|| None)
        .unwrap()
        .first()
        .unwrap();
    let mut config =
        Config::new(Url::parse(&format!("http://api.test:{}", address.port())).unwrap());
    config.server.default_timeout = Duration::from_secs(1);
    config.upstream.resolver = Some(BoxCloneSyncService::new(service_fn(move |_| async move {
        tokio::time::sleep(Duration::from_millis(600)).await;
        Ok(vec![address].into_iter())
    })));
    let gateway = Gateway::start(config).await;
    gateway.update(update_request()).await.unwrap();
    gateway.stop().await;
}

/// Each call threw the dial away that the next one needed again: none ever got through.
#[tokio::test]
async fn a_dial_outlives_the_call_that_asked_for_it() {
    let upstream = Upstream::answering(201, CREATED).await;
    let address = upstream.address;
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    let mut config =
        Config::new(Url::parse(&format!("http://api.test:{}", address.port())).unwrap());
    config.server.default_timeout = Duration::from_millis(300);
    config.upstream.resolver = Some(BoxCloneSyncService::new(service_fn(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            sleep(Duration::from_millis(700)).await;
            Ok(vec![address].into_iter())
        }
    })));
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    let first = told(&client.create_customer(create_request()).await.unwrap_err());
    assert_eq!(
        (&*first.reason, &*first.write),
        ("DEADLINE_EXCEEDED", "not_sent")
    );
    let mut calls = 1;
    while client.create_customer(create_request()).await.is_err() {
        calls += 1;
        assert!(calls < 50, "no call gets through");
    }
    assert_eq!(dials.load(Ordering::Relaxed), 1);
    gateway.stop().await;
}

/// The commonest failure in life.
#[tokio::test]
async fn a_create_survives_a_kept_connection_that_was_closed() {
    let closes_at_once = Chance {
        cut: 0,
        pause: Duration::ZERO,
    };
    let upstream = Faulty::start(Fault::ClosesBetween, closes_at_once);
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    for call in 1..=20 {
        client.create_customer(create_request()).await.unwrap();
        assert_eq!(upstream.seen.whole(), call);
        sleep(Duration::from_millis(5)).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_name_that_fails_and_comes_back() {
    let upstream = Faulty::start(
        Fault::Continue,
        Chance {
            cut: 0,
            pause: Duration::ZERO,
        },
    );
    let address = upstream.address;
    let is_back = Arc::new(AtomicBool::new(false));
    let resolves = Arc::clone(&is_back);
    let mut config =
        Config::new(Url::parse(&format!("http://api.test:{}", address.port())).unwrap());
    config.upstream.resolver = Some(resolver(move || {
        resolves.load(Ordering::Relaxed).then_some(address)
    }));
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    let lost = told(&client.create_customer(create_request()).await.unwrap_err());
    assert_eq!(
        (lost.reason.as_str(), lost.write.as_str()),
        ("UPSTREAM_UNREACHABLE", "not_sent")
    );
    is_back.store(true, Ordering::Relaxed);
    client.create_customer(create_request()).await.unwrap();
    gateway.stop().await;
}

/// The request has to name the whole URL then, and the base URL's path and query stay.
#[tokio::test]
async fn plaintext_goes_through_a_proxy_whole() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", proxy.local_addr().unwrap());
    let mut config = Config::new(Url::parse("http://api.invalid:8080/base/?tenant=7").unwrap());
    config.upstream.proxy = Some(onboardflow_gateway::config::Proxy {
        address: address.parse().unwrap(),
        authorization: Some("Basic eDp5".parse().unwrap()),
    });
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    let call = tokio::spawn(async move { client.create_customer(create_request()).await });
    let (mut stream, _) = proxy.accept().await.unwrap();
    let mut request = vec![0; 4096];
    let length = stream.read(&mut request).await.unwrap();
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    assert!(
        request.starts_with(
            "POST http://api.invalid:8080/base/api/v1/customer/?tenant=7 HTTP/1.1\r\n"
        ),
        "{request}"
    );
    assert!(
        request.contains("proxy-authorization: Basic eDp5\r\n"),
        "{request}"
    );
    assert!(request.contains("host: api.invalid:8080\r\n"), "{request}");
    stream
        .write_all(b"HTTP/1.1 503 Away\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let told = told(&call.await.unwrap().unwrap_err());
    assert_eq!(told.reason, "UPSTREAM_MAINTENANCE");
    gateway.stop().await;
}

/// Many calls at once leave as many connections behind, which nobody asks for again.
#[tokio::test]
async fn the_connections_of_a_burst_are_closed_again() {
    const BURST: usize = 20;
    let open = Arc::new(AtomicUsize::new(0));
    let all_here = Arc::new(Barrier::new(BURST));
    let counted = Arc::clone(&open);
    let upstream = Upstream::with(move |mut stream| {
        let (open, all_here) = (Arc::clone(&counted), Arc::clone(&all_here));
        async move {
            open.fetch_add(1, Ordering::Relaxed);
            all_here.wait().await;
            stream.write_all(&answer(CREATED)).await.unwrap();
            // Ready when the gateway closes it.
            stream.read_u8().await.unwrap_err();
            open.fetch_sub(1, Ordering::Relaxed);
        }
    })
    .await;
    let gateway = Gateway::before(upstream.url()).await;
    create_at_once(&gateway, BURST).await;
    assert_eq!(
        open.load(Ordering::Relaxed),
        BURST,
        "kept for the next call"
    );

    tokio::time::pause();
    for _ in 0..11 {
        advance(Duration::from_secs(10)).await;
        sleep(Duration::from_millis(1)).await;
    }
    tokio::time::resume();
    let all_closed = async {
        while open.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(5), all_closed).await;
    assert!(ended.is_ok(), "{open:?} are open");
    gateway.stop().await;
}

/// Behind a first connection, which tells whether there is HTTP/2, all others were opened one after
/// the other, and those that waited for long were given up.
#[tokio::test]
async fn calls_over_tls_without_http2_waited_for_each_others_handshakes() {
    const CALLS: usize = 6;
    let (acceptor, certificate) = acceptor("http/1.1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    // No handshake but the first goes on, and no call ends, before all are there.
    let (dialled, called) = (Barrier::new(CALLS - 1), Barrier::new(CALLS));
    let (dialled, called) = (Arc::new(dialled), Arc::new(called));
    tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, dialled) = (acceptor.clone(), Arc::clone(&dialled));
            let called = Arc::clone(&called);
            let waits = !std::mem::take(&mut is_first);
            tokio::spawn(async move {
                if waits {
                    dialled.wait().await;
                }
                let mut stream = acceptor.accept(stream).await.unwrap();
                stream.read_u8().await.unwrap();
                called.wait().await;
                stream.write_all(&answer(CREATED)).await.unwrap();
                stream.read_to_end(&mut Vec::new()).await.ok();
            });
        }
    });
    let mut config = Config::new(url);
    config.upstream.extra_roots = vec![certificate];
    let gateway = Gateway::start(config).await;
    create_at_once(&gateway, CALLS).await;
    gateway.stop().await;
}

/// TLS is OnboardFlow's, not the proxy's.
#[tokio::test]
async fn https_goes_through_a_proxy_in_a_tunnel() {
    let upstream = Http2::start(Manner::Answers).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::new(upstream.url());
    config.upstream.extra_roots = vec![upstream.certificate.clone()];
    config.upstream.proxy = Some(onboardflow_gateway::config::Proxy {
        address: format!("http://{}", proxy.local_addr().unwrap())
            .parse()
            .unwrap(),
        authorization: Some("Basic eDp5".parse().unwrap()),
    });
    let target = upstream.url().socket_addrs(|| None).unwrap()[0];
    let asked = tokio::spawn(async move {
        let (mut inward, _) = proxy.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = inward.read(&mut request).await.unwrap();
        inward.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut outward = tokio::net::TcpStream::connect(target).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inward, &mut outward).await });
        String::from_utf8_lossy(&request[..length]).to_lowercase()
    });
    let gateway = Gateway::start(config).await;
    create_at_once(&gateway, 1).await;
    let asked = asked.await.unwrap();
    assert!(
        asked.starts_with(&format!("connect {target} http/1.1\r\n")),
        "{asked}"
    );
    assert!(
        asked.contains("proxy-authorization: basic edp5\r\n"),
        "{asked}"
    );
    assert_eq!(upstream.requests(), 1);
    gateway.stop().await;
}

async fn create_at_once(gateway: &Gateway, calls: usize) {
    let client = gateway.client().await;
    let calls = (0..calls).map(|_| {
        let mut client = client.clone();
        tokio::spawn(async move { client.create_customer(create_request()).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
}

/// The second answer comes a moment late, when the next request has left. The upstream counts on: each
/// answer from then on is the one to the call before.
#[tokio::test]
async fn no_call_gets_the_answer_of_another_customers() {
    let upstream = Upstream::with(|mut stream| async move {
        let mut request = vec![0; 4096];
        let first = answer(CREATED);
        // What it was sent first is read already. Its answer comes twice, the second time in place of
        // the next one's.
        for _ in 0..2 {
            if stream.write_all(&first).await.is_err() {
                return;
            }
            if stream.read(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
    })
    .await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    client.create_customer(create_request()).await.unwrap();

    let mut other = create_request();
    other.customer.as_mut().unwrap().id = "cus_another".to_owned();
    let lost = told(&client.create_customer(other).await.unwrap_err());
    assert_eq!(
        (&*lost.reason, &*lost.write),
        ("UPSTREAM_CONNECTION_LOST", "unknown")
    );

    client.create_customer(create_request()).await.unwrap();
    let connections = upstream.received().len(); // it keeps the first request of each
    assert_eq!(connections, 2, "the suspect connection was used again");
    gateway.stop().await;
}
