//! The file system with the ledger's store runs full, again and again, under creates that are repeated at
//! random. Only where `LEDGER_TEST_FULL` names a directory on a small file system of its own, with PostgreSQL's
//! files on it too: `scripts/crash-ledger` makes one.

use std::{
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Create,
    callers::{Callers, Sum, onboardflow, seed},
};
use crate::support::{KEY, Process, Store, fresh_id, insist};

const ROUNDS: u32 = 3;
/// How long it is full, and not, at a time.
const A_WHILE: Duration = Duration::from_secs(2);
const CALLERS: usize = 16;
/// More than the ledger waits for its store.
const DEADLINE: Duration = Duration::from_secs(4);
/// What the test takes at most on one store.
const LONGEST: Duration = Duration::from_secs(300);

/// A file that leaves no room for others.
struct Filler(PathBuf);

impl Filler {
    /// Takes what others give free meanwhile, too.
    async fn fill(&self) {
        let mut file = File::create(&self.0).unwrap();
        let until = Instant::now() + A_WHILE;
        while Instant::now() < until {
            // Large pieces first, then what is left.
            for size in [1 << 20, 1 << 12, 1] {
                while write(&mut file, size) {}
            }
            sleep(Duration::from_millis(50)).await;
        }
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// False where there is no room.
fn write(file: &mut File, size: usize) -> bool {
    match file.write(&vec![1; size]) {
        Ok(written) => written == size,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            false
        }
    }
}

async fn run_full(directory: &Path, store: &Store) -> Sum {
    let (upstream, seen) = onboardflow().await;
    let url = upstream.url();
    let start = || Process::start(&url, &store.url, KEY, &["--max-attempts=1"]);
    let gateways = [start().await, start().await];
    let clients = [gateways[0].client().await, gateways[1].client().await];
    let callers = Callers::new(clients, seen, DEADLINE);
    let filler = Filler(directory.join("filler"));
    let begun = Instant::now();
    let more = || begun.elapsed() < A_WHILE * 2 * ROUNDS;
    let fill = async {
        for _ in 0..ROUNDS {
            sleep(A_WHILE).await;
            filler.fill().await;
        }
    };
    let (sum, ()) = tokio::join!(callers.call(CALLERS, more), fill);
    // There is room again: another create leaves, whatever OnboardFlow makes of it.
    for gateway in &gateways {
        let create = Create {
            date: 1,
            id: fresh_id(),
        };
        let mut client = gateway.client().await;
        let _ = insist(&mut client, || create.request(DEADLINE)).await;
    }
    for gateway in gateways {
        gateway.kill().await;
    }
    sum
}

#[tokio::test]
async fn a_disk_that_runs_full_sends_no_create_twice() {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let Ok(directory) = std::env::var("LEDGER_TEST_FULL") else {
        println!("NOT TESTED: there is no LEDGER_TEST_FULL");
        return;
    };
    seed("LEDGER_FULL_SEED");
    let directory = Path::new(&directory);
    let file = Store::at(&format!("sqlite:{}/ledger.db", directory.display()));
    for store in [Some(file), Store::postgres()].into_iter().flatten() {
        let ended = timeout(LONGEST, run_full(directory, &store)).await;
        let sum = ended.expect("it ends in time");
        let (kind, _) = store.url.split_once(':').unwrap();
        println!("{kind}: full {ROUNDS} times: {sum:?}, none twice");
        assert!(sum.told.contains_key("LEDGER_UNAVAILABLE"));
    }
}
