//! An import that is killed sends each row once.

use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Child,
    time::sleep,
};

use super::{MAP, attempts, csv, emulated, ended, gateway_before, import};
use crate::support::Gateway;

/// What came over each connection to an API.
type Seen = Arc<Mutex<Vec<u8>>>;

/// Stands before an API, passes all bytes on, and keeps those that go there.
async fn watched(api: SocketAddr) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let keeps = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            let (mut from_caller, mut to_caller) = caller.into_split();
            let (mut from_api, mut to_api) = TcpStream::connect(api).await.unwrap().into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_api, &mut to_caller).await });
            let seen = Arc::clone(&keeps);
            tokio::spawn(async move {
                // What one connection brings is kept in one piece.
                let (mut own, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(length @ 1..) = from_caller.read(&mut buffer).await {
                    own.extend_from_slice(&buffer[..length]);
                    while let Some(end) = own.iter().position(|byte| *byte == b'}') {
                        seen.lock().unwrap().extend(own.drain(..=end));
                    }
                    if to_api.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

/// A number from the environment.
#[expect(clippy::disallowed_methods, reason = "a test's own setting")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Kills it at a random moment: while it checks the file or passes over what is in, or after it sent about
/// `share` rows.
async fn kill(running: &mut Child, gateway: &Gateway, share: u64) {
    let target = attempts(gateway) + fastrand::u64(..=share);
    let is_early = fastrand::u8(..4) == 0;
    while !is_early && attempts(gateway) < target && running.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(2)).await;
    }
    sleep(Duration::from_millis(fastrand::u64(..50))).await;
    running.kill().await.unwrap();
}

/// `scripts/check-import` runs it with 10,000 rows and 50 kills.
#[tokio::test]
async fn an_import_that_is_killed_and_run_again_sends_each_row_once() {
    let (rows, kills) = (number("IMPORT_ROWS", 400), number("IMPORT_KILLS", 4));
    let seed = number("IMPORT_SEED", fastrand::u64(..));
    println!("IMPORT_SEED={seed}");
    fastrand::seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let (api, taken) = watched(emulated().await).await;
    let gateway = gateway_before(api, Some(&folder)).await;
    let file = folder.path().join("customers.csv");
    fs::write(&file, csv(usize::try_from(rows).unwrap())).unwrap();
    for round in 1..=kills {
        // With a rate, so that the machine's speed doesn't decide how far a run gets.
        let mut running = import(&gateway, &file, &[MAP, "--rate=20000"])
            .spawn()
            .unwrap();
        kill(&mut running, &gateway, rows / kills).await;
        println!("kill {round}: {} rows are out", attempts(&gateway));
    }
    let before = attempts(&gateway);
    assert!(before < rows, "no kill came in the middle");
    let report = folder.path().join("report.json");
    let flag = format!("--report={}", report.display());
    let (code, said) = ended(import(&gateway, &file, &[MAP, &flag])).await;
    println!("{said}");
    let counts: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let unknown = counts["unknown"].as_object().unwrap().values();
    let unknown: u64 = unknown.map(|count| count.as_u64().unwrap()).sum();
    let known = ["sent", "replayed"].map(|name| counts[name].as_u64().unwrap());
    assert_eq!(known.iter().sum::<u64>() + unknown, rows, "{said}");
    assert_eq!(code, Some(i32::from(unknown > 0)), "{said}");
    // Only a row whose caller was killed may be missing, and it is told as unknown.
    let bodies = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
    let mut times = HashMap::new();
    for customer in bodies.split('"').filter(|text| text.starts_with("cus_")) {
        *times.entry(customer).or_insert(0) += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let missing = rows - times.len() as u64;
    println!(
        "of {rows} rows {} came to the API once, {missing} never, {unknown} are told as unknown",
        rows - missing
    );
    assert!(missing <= unknown, "{missing} are missing: {said}");
}
