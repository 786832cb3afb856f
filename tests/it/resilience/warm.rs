//! `--warm-connections`: connections that are ready before a call needs one, and are replaced before it
//! notices.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{advance, sleep},
};
use tower::{service_fn, util::BoxCloneSyncService};
use url::Url;

use crate::support::{
    CREATED, Chance, Config, Fault, Faulty, Gateway, Http2, Manner, answer, create_request,
    eventually, read_request, resolver, told,
};

/// A server that counts its connections, and closes them when it is dropped.
struct Server {
    address: SocketAddr,
    opened: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

/// What a server does with a connection.
#[derive(Clone, Copy)]
enum Manners {
    /// Answers each request.
    Answers,
    ClosesAfterEachReply,
    ClosesAtOnce,
}

impl Server {
    async fn start(address: &str, manners: Manners) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (opened, open) = (Arc::default(), Arc::default());
        let mut task = JoinSet::new();
        task.spawn(listen(
            listener,
            manners,
            Arc::clone(&opened),
            Arc::clone(&open),
        ));
        Self {
            address,
            opened,
            open,
            _task: task,
        }
    }

    fn opened(&self) -> usize {
        self.opened.load(Relaxed)
    }

    fn config(&self) -> Config {
        self.named(&self.address.ip().to_string())
    }

    fn named(&self, host: &str) -> Config {
        let url = format!("http://{host}:{}", self.address.port());
        let mut config = Config::new(Url::parse(&url).unwrap());
        config.upstream.warm_connections = 1;
        config
    }
}

async fn listen(
    listener: TcpListener,
    manners: Manners,
    opened: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        opened.fetch_add(1, Relaxed);
        open.fetch_add(1, Relaxed);
        let open = Arc::clone(&open);
        connections.spawn(async move {
            converse(stream, manners).await;
            open.fetch_sub(1, Relaxed);
        });
    }
}

async fn converse(mut stream: TcpStream, manners: Manners) {
    if let Manners::ClosesAtOnce = manners {
        return;
    }
    while read_request(&mut stream).await.is_some() {
        let answered = stream.write_all(&answer(CREATED)).await;
        if answered.is_err() || matches!(manners, Manners::ClosesAfterEachReply) {
            return;
        }
    }
}

const WAITS: &str = "onboardflow_gateway_upstream_connection_wait_seconds_count";

fn dials(gateway: &Gateway, reason: &str, result: &str) -> u64 {
    let name = "onboardflow_gateway_upstream_dials_total";
    gateway.metric(&format!(
        "{name}{{reason=\"{reason}\",result=\"{result}\"}}"
    ))
}

fn connections(gateway: &Gateway, state: &str) -> u64 {
    let name = "onboardflow_gateway_upstream_connections";
    gateway.metric(&format!("{name}{{state=\"{state}\"}}"))
}

async fn has_warm(gateway: &Gateway, count: u64) {
    let what = format!("{count} warm connections");
    eventually(&what, || {
        (connections(gateway, "warm") == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_ready_before_the_first_call_and_another_while_it_is_in_use() {
    let server = Server::start("127.0.0.1:0", Manners::Answers).await;
    let gateway = Gateway::start(server.config()).await;
    has_warm(&gateway, 1).await;
    gateway.create(create_request()).await.unwrap();
    has_warm(&gateway, 2).await;
    for _ in 0..5 {
        gateway.create(create_request()).await.unwrap();
    }
    assert_eq!(server.opened(), 2);
    assert_eq!(dials(&gateway, "start", "connected"), 1);
    assert_eq!(dials(&gateway, "taken", "connected"), 1);
    assert_eq!(gateway.metric(WAITS), 0);
    assert_eq!(connections(&gateway, "in_use"), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_server_that_closes_after_each_reply_is_dialled_once_a_call() {
    let server = Server::start("127.0.0.1:0", Manners::ClosesAfterEachReply).await;
    let gateway = Gateway::start(server.config()).await;
    for call in 1..=10 {
        eventually("a warm connection", || {
            (connections(&gateway, "warm") >= 1).then_some(())
        })
        .await;
        gateway.create(create_request()).await.unwrap();
        assert!(server.opened() <= call + 2, "{} dials", server.opened());
    }
    assert_eq!(gateway.metric(WAITS), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_server_that_closes_what_it_accepts_is_dialled_less_and_less() {
    let server = Server::start("127.0.0.1:0", Manners::ClosesAtOnce).await;
    let gateway = Gateway::start(server.config()).await;
    eventually("a dial", || (server.opened() > 0).then_some(())).await;
    sleep(Duration::from_secs(4)).await;
    // After an eighth of a second at the soonest, a quarter, half a one, one, and one and a half.
    assert!((2..=7).contains(&server.opened()), "{}", server.opened());
    gateway.stop().await;
}

#[tokio::test]
async fn the_first_call_after_an_outage_finds_a_connection() {
    let server = Server::start("127.0.0.1:0", Manners::Answers).await;
    let (address, config) = (server.address, server.config());
    let gateway = Gateway::start(config).await;
    gateway.create(create_request()).await.unwrap();
    has_warm(&gateway, 2).await;
    drop(server);
    eventually("failed dials", || {
        (dials(&gateway, "closed", "unreachable") > 1).then_some(())
    })
    .await;
    assert_eq!(connections(&gateway, "warm"), 0);
    let server = Server::start(&address.to_string(), Manners::Answers).await;
    has_warm(&gateway, 1).await;
    gateway.create(create_request()).await.unwrap();
    assert_eq!(gateway.metric(WAITS), 0);
    assert!(server.opened() <= 2);
    gateway.stop().await;
}

/// A gateway before a name, and where that leads.
async fn before_a_name(server: &Server) -> (Gateway, Arc<Mutex<Option<SocketAddr>>>) {
    let leads_to = Arc::new(Mutex::new(Some(server.address)));
    let answers = Arc::clone(&leads_to);
    let mut config = server.named("api.test");
    config.upstream.resolver = Some(resolver(move || *answers.lock().unwrap()));
    let gateway = Gateway::start(config).await;
    has_warm(&gateway, 1).await;
    (gateway, leads_to)
}

async fn pass(seconds: u64) {
    tokio::time::pause();
    for _ in 0..seconds {
        advance(Duration::from_secs(1)).await;
        sleep(Duration::from_millis(1)).await;
    }
    tokio::time::resume();
}

#[tokio::test]
async fn a_connection_follows_the_name_to_another_address() {
    let old = Server::start("127.0.0.1:0", Manners::Answers).await;
    let new = Server::start(
        &format!("127.0.0.2:{}", old.address.port()),
        Manners::Answers,
    )
    .await;
    let (gateway, leads_to) = before_a_name(&old).await;
    *leads_to.lock().unwrap() = Some(new.address);
    pass(95).await;
    eventually("a connection to the new address", || {
        (new.opened() > 0).then_some(())
    })
    .await;
    eventually("none to the old one", || {
        (old.open.load(Relaxed) == 0).then_some(())
    })
    .await;
    assert_eq!((old.opened(), new.opened()), (1, 1));
    assert_eq!(dials(&gateway, "moved", "connected"), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_resolver_that_is_down_changes_nothing() {
    let server = Server::start("127.0.0.1:0", Manners::Answers).await;
    let (gateway, leads_to) = before_a_name(&server).await;
    *leads_to.lock().unwrap() = None;
    pass(200).await;
    gateway.create(create_request()).await.unwrap();
    assert_eq!(server.open.load(Relaxed), 1);
    assert_eq!(gateway.metric(WAITS), 0);
    gateway.stop().await;
}

/// Where the new address can't be reached, the old connection goes on.
#[tokio::test]
async fn a_connection_is_kept_until_another_one_replaces_it() {
    let server = Server::start("127.0.0.1:0", Manners::Answers).await;
    let nobody = SocketAddr::from(([127, 0, 0, 3], server.address.port()));
    let (gateway, leads_to) = before_a_name(&server).await;
    *leads_to.lock().unwrap() = Some(nobody);
    pass(95).await;
    eventually("a dial that fails", || {
        (dials(&gateway, "moved", "unreachable") > 0).then_some(())
    })
    .await;
    gateway.create(create_request()).await.unwrap();
    assert_eq!(gateway.metric(WAITS), 0);
    gateway.stop().await;
}

#[tokio::test]
async fn an_old_connection_is_replaced_and_only_then_closed() {
    let server = Server::start("127.0.0.1:0", Manners::Answers).await;
    let gateway = Gateway::start(server.config()).await;
    has_warm(&gateway, 1).await;
    pass(320).await;
    eventually("a dial", || {
        (dials(&gateway, "aged", "connected") == 1).then_some(())
    })
    .await;
    eventually("one connection", || {
        (server.open.load(Relaxed) == 1).then_some(())
    })
    .await;
    assert_eq!(server.opened(), 2);
    gateway.stop().await;
}

#[tokio::test]
async fn a_call_that_waits_gets_the_connection_that_another_gives_back() {
    let server = Server::start("127.0.0.1:0", Manners::Answers).await;
    let (address, asked) = (server.address, AtomicUsize::new(0));
    let mut config = server.named("api.test");
    config.upstream.warm_connections = 0;
    config.upstream.connect_timeout = Duration::from_secs(60);
    config.upstream.resolver = Some(BoxCloneSyncService::new(service_fn({
        let asked = Arc::new(asked);
        move |_| {
            let is_first = asked.fetch_add(1, Relaxed) == 0;
            async move {
                if !is_first {
                    std::future::pending::<()>().await;
                }
                Ok(vec![address].into_iter())
            }
        }
    })));
    let gateway = Gateway::start(config).await;
    let (first, second) = tokio::join!(
        gateway.create(create_request()),
        gateway.create(create_request())
    );
    first.unwrap();
    second.unwrap();
    assert_eq!(server.opened(), 1);
    assert_eq!(gateway.metric(WAITS), 2);
    gateway.stop().await;
}

/// HTTP/1.1, and `http2.rs` has HTTP/2.
#[tokio::test]
async fn a_connection_that_falls_silent_costs_one_call() {
    let chance = Chance {
        cut: 0,
        pause: Duration::ZERO,
    };
    let upstream = Faulty::start(Fault::FallsSilent, chance);
    let mut config = Config::new(upstream.url());
    config.server.default_timeout = Duration::from_secs(2);
    let gateway = Gateway::start(config).await;
    gateway.create(create_request()).await.unwrap();
    let lost = told(&gateway.create(create_request()).await.unwrap_err());
    assert_eq!(
        (lost.reason.as_str(), lost.write.as_str()),
        ("DEADLINE_EXCEEDED", "unknown")
    );
    gateway.create(create_request()).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn interim_answers_without_end_are_read_up_to_a_bound() {
    let chance = Chance {
        cut: 0,
        pause: Duration::ZERO,
    };
    let plain = Faulty::start(Fault::EndlessInterim, chance);
    let encrypted = Http2::start(Manner::AnswersInInterim).await;
    let mut over_tls = Config::new(encrypted.url());
    over_tls.upstream.extra_roots = vec![encrypted.certificate.clone()];
    for mut config in [Config::new(plain.url()), over_tls] {
        config.server.default_timeout = Duration::from_secs(30);
        let gateway = Gateway::start(config).await;
        let lost = told(&gateway.create(create_request()).await.unwrap_err());
        assert_eq!(
            (lost.reason.as_str(), lost.write.as_str()),
            ("UPSTREAM_CONNECTION_LOST", "unknown")
        );
        gateway.stop().await;
    }
}
