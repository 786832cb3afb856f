//! What operators do all day, under load: not one call may fail.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use onboardflow_gateway::{
    proto::customer_service_client::CustomerServiceClient, telemetry::Closed,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, channel::Change};

use crate::{
    support::{
        CREATED, Config, Gateway, Upstream,
        certificates::{Authority, Leaf, Secret},
        create_request,
    },
    tls::{NAME, presented, until},
};

const CLIENTS: usize = 4;
const ROTATIONS: usize = 10;
const AGE: Duration = Duration::from_millis(300);

/// Clients that call without a pause until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(channels: Vec<Channel>) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            calls: Arc::default(),
            clients: JoinSet::new(),
        };
        for channel in channels {
            let (stop, calls) = (Arc::clone(&load.stop), Arc::clone(&load.calls));
            load.clients.spawn(async move {
                let mut client = CustomerServiceClient::new(channel);
                while !stop.load(Relaxed) {
                    let answer = client.create_customer(create_request()).await;
                    let status = answer.err();
                    assert!(status.is_none(), "call {}: {status:?}", calls.load(Relaxed));
                    calls.fetch_add(1, Relaxed);
                    sleep(Duration::from_millis(2)).await;
                }
            });
        }
        load
    }

    async fn stop(mut self) -> usize {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        self.calls.load(Relaxed)
    }
}

fn endpoint(address: SocketAddr, tls: &ClientTlsConfig) -> Endpoint {
    let endpoint = Channel::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls.clone()).unwrap()
}

async fn gateway(secret: &Secret) -> Gateway {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.server.tls = Some(secret.files(true));
    config.server.workers = 2;
    config.server.connections.max_age = AGE;
    config.server.reload_interval = Duration::from_millis(200);
    config.server.drain_delay = Duration::from_millis(500);
    Gateway::start(config).await
}

fn client_tls(ca: &Authority, leaf: &Leaf) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(ca.certificate())
        .domain_name(NAME)
        .identity(leaf.identity())
}

#[tokio::test]
async fn not_one_call_fails() {
    let ca = Authority::new();
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let mut first = gateway(&secret).await;
    let second = gateway(&secret).await;
    let tls = client_tls(&ca, &ca.issue(&["load.test"]));
    // As a client is told by a name service: first the one, then both, then the other.
    let mut channels = Vec::new();
    let mut endpoints = Vec::new();
    for _ in 0..CLIENTS {
        let (channel, changes) = Channel::balance_channel(8);
        changes
            .send(Change::Insert(1, endpoint(first.address, &tls)))
            .await
            .unwrap();
        channels.push(channel);
        endpoints.push(changes);
    }
    let load = Load::start(channels);
    for _ in 0..ROTATIONS {
        let leaf = ca.issue(&[NAME]);
        secret.swap_tls(&leaf, &ca);
        // Enough time for every connection to grow old, too.
        sleep(AGE * 3 / 2).await;
        presented(&first, &ca, &leaf).await;
    }
    let cycles = (ROTATIONS * CLIENTS) as u64;
    until("connections grow old", async || {
        first.closed(Closed::Aged) >= cycles
    })
    .await;

    for changes in &endpoints {
        let to_second = endpoint(second.address, &tls);
        let change = Change::Insert(2, to_second);
        changes.send(change).await.unwrap();
    }
    first.tell_to_stop();
    until("not ready", async || !first.handles.health.is_ready()).await;
    for changes in &endpoints {
        changes.send(Change::Remove(1)).await.unwrap();
    }
    timeout(Duration::from_secs(8), first.ended())
        .await
        .unwrap();
    let calls = load.stop().await;
    assert!(calls > 100, "{calls} calls");
    second.stop().await;
}
