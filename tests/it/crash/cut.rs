//! PostgreSQL's connections are cut in the middle of commits, so that gateways don't learn what became of
//! them. No create is sent twice for that. `scripts/crash-ledger` kills the server meanwhile, too.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use onboardflow_gateway::ledger::Ledger;
use sqlx::{AnyConnection, Connection as _, Row as _, query};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use url::Url;

use super::{
    PATIENCE,
    callers::{Callers, number, onboardflow, seed},
};
use crate::support::{Process, Store, fresh_id};

/// How long a plain `cargo test` makes creates. Then it repeats each of them.
const SECONDS: u64 = 8;
const CALLERS: usize = 16;
/// More than the ledger waits for its store.
const DEADLINE: Duration = Duration::from_secs(4);
/// What the whole test takes at most, besides.
const LONGEST: Duration = Duration::from_secs(300);
/// One commit in so many is cut.
const CUT: usize = 10;

/// Where a connection is cut.
#[derive(Clone, Copy)]
enum Cut {
    /// The server never hears of the commit.
    Before,
    /// The server has its bytes.
    Within,
    /// The server has answered.
    After,
}

#[derive(Default)]
struct Commits {
    seen: AtomicUsize,
    cut: AtomicUsize,
}

impl Commits {
    /// Whether this one is cut.
    fn next(&self) -> Option<Cut> {
        self.seen.fetch_add(1, Relaxed);
        if fastrand::usize(..CUT) > 0 {
            return None;
        }
        self.cut.fetch_add(1, Relaxed);
        fastrand::choice([Cut::Before, Cut::Within, Cut::After])
    }
}

/// Stands in front of PostgreSQL, and cuts connections.
struct Relay {
    url: Url,
    commits: Arc<Commits>,
}

impl Relay {
    async fn start(server: &str) -> Self {
        let mut url = Url::parse(server).unwrap();
        let server = format!("{}:{}", url.host().unwrap(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        url.set_host(Some(&address.ip().to_string())).unwrap();
        url.set_port(Some(address.port())).unwrap();
        let commits = Arc::new(Commits::default());
        let of_all = Arc::clone(&commits);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, commits) = (server.clone(), Arc::clone(&of_all));
                // Whatever ends it, both sides are closed.
                tokio::spawn(async move { pass_on(client, &server, &commits).await });
            }
        });
        Self { url, commits }
    }
}

async fn pass_on(mut client: TcpStream, server: &str, commits: &Commits) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut asked, mut said) = (Vec::new(), Vec::new());
    let holds = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|found| found == word);
    loop {
        tokio::select! {
            read = client.read_buf(&mut asked) => {
                if read? == 0 {
                    return Ok(());
                }
                let cut = if holds(&asked, b"COMMIT") { commits.next() } else { None };
                if let Some(Cut::Before) = cut {
                    return Ok(());
                }
                server.write_all(&asked).await?;
                match cut {
                    None | Some(Cut::Before) => asked.clear(),
                    Some(Cut::Within) => return Ok(()),
                    Some(Cut::After) => return server.read_buf(&mut said).await.map(drop),
                }
            }
            read = server.read_buf(&mut said) => {
                // An outcome is written by one statement, which commits by itself.
                if read? == 0 || holds(&said, b"UPDATE 1\0") && commits.next().is_some() {
                    return Ok(());
                }
                client.write_all(&said).await?;
                said.clear();
            }
        }
    }
}

/// The calls that the ledger has counted with this key, once it can be reached.
async fn counted(ledger: &str, key: &str) -> usize {
    let account = Ledger::account(&[format!("Token {key}").as_bytes()]);
    let count = async || {
        let mut connection = AnyConnection::connect(ledger).await?;
        let sum = query("SELECT CAST(SUM(calls) AS BIGINT) FROM days WHERE account = $1");
        let row = sum
            .bind(account.to_vec())
            .fetch_one(&mut connection)
            .await?;
        row.try_get::<i64, _>(0)
    };
    sqlx::any::install_default_drivers();
    let until = Instant::now() + PATIENCE;
    loop {
        match count().await {
            Ok(calls) => return calls.try_into().unwrap(),
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Only on the PostgreSQL that `LEDGER_TEST_POSTGRES` names.
#[tokio::test]
async fn a_commit_that_is_cut_sends_no_create_twice() {
    let Some(store) = Store::postgres() else {
        println!("NOT TESTED: there is no LEDGER_TEST_POSTGRES");
        return;
    };
    seed("LEDGER_CUT_SEED");
    let seconds = Duration::from_secs(number("LEDGER_CUT_SECONDS", SECONDS));
    let ended = timeout(seconds + LONGEST, cut(&store, seconds)).await;
    ended.expect("it ends in time");
}

async fn cut(store: &Store, seconds: Duration) {
    let relay = Relay::start(&store.url).await;
    let (upstream, seen) = onboardflow().await;
    let key = fresh_id();
    let flags = ["--max-attempts=1", "--daily-quota=1000000"];
    let url = upstream.url();
    let start = || Process::start(&url, relay.url.as_str(), &key, &flags);
    let gateways = [start().await, start().await];
    let clients = [gateways[0].client().await, gateways[1].client().await];
    let callers = Callers::new(clients, seen, DEADLINE);
    let until = Instant::now() + seconds;
    let sum = callers.call(CALLERS, || Instant::now() < until).await;
    let counted = counted(&store.url, &key).await;
    assert!(counted >= sum.arrived, "{counted} counted: {sum:?}");
    for gateway in gateways {
        gateway.kill().await;
    }
    let Commits { seen, cut } = &*relay.commits;
    let (seen, cut) = (seen.load(Relaxed), cut.load(Relaxed));
    println!("{sum:?}, none twice; {counted} counted; {cut} of {seen} commits cut");
    assert!(cut > 0 && sum.told.contains_key("executed"));
}
