//! `import`: the program, before a gateway with a ledger and the emulated OnboardFlow.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use onboardflow_gateway::{config::Location, ledger::Ledger, sandbox::OnboardFlow};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    time::sleep,
};
use url::Url;

use crate::support::{Config, Gateway, KEY};

/// A gateway before the emulated OnboardFlow.
async fn gateway(ledger: Option<&TempDir>) -> Gateway {
    let api = emulated().await;
    gateway_before(api, ledger).await
}

/// The address of an emulated OnboardFlow.
async fn emulated() -> SocketAddr {
    let rest = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = rest.local_addr().unwrap();
    let emulated = OnboardFlow::new(SecretString::from(KEY));
    tokio::spawn(emulated.serve(rest, std::future::pending()));
    address
}

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

async fn gateway_before(api: SocketAddr, ledger: Option<&TempDir>) -> Gateway {
    let url = Url::parse(&format!("http://{api}")).unwrap();
    let ledger = ledger.map(|folder| {
        let place = format!("sqlite:{}/ledger.db", folder.path().display());
        Ledger::new(&Location::parse(&place).unwrap()).unwrap()
    });
    let config = Config::new(url);
    Gateway::start(Config { ledger, ..config }).await
}

/// Attempts at the API, by the gateway's own count.
fn attempts(gateway: &Gateway) -> u64 {
    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
    let counts = metrics.lines().filter(|line| line.starts_with(ATTEMPTS));
    let counts = counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    counts.sum()
}

const ATTEMPTS: &str = "http_client_request_duration_seconds_count";

fn import(gateway: &Gateway, file: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onboardflow-gateway"));
    command
        .arg("import")
        .arg(format!("--to=http://{}", gateway.address))
        .args(flags)
        .arg(file)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// What the program says, on both streams, and its exit code.
async fn ended(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

const HEADER: &str =
    "site_key,event_date,customer.id,customer.user_id,mail,customer.has_payment_method\n";
const MAP: &str = "--map=mail=customer.email";

fn csv(rows: usize) -> String {
    let mut text = HEADER.to_owned();
    for row in 0..rows {
        writeln!(
            text,
            "f37F2PPh,2023-01-02T03:04:05Z,cus_{row},user_{row},{row}@example.com,true"
        )
        .unwrap();
    }
    text
}

#[tokio::test]
async fn an_import_that_is_killed_and_run_again_sends_each_row_once() {
    const ROWS: usize = 400;
    let folder = tempfile::tempdir().unwrap();
    let (api, seen) = watched(emulated().await).await;
    let gateway = gateway_before(api, Some(&folder)).await;
    let file = folder.path().join("customers.csv");
    fs::write(&file, csv(ROWS)).unwrap();
    for round in 1..=4 {
        let mut running = import(&gateway, &file, &[MAP, "--rate=200"])
            .spawn()
            .unwrap();
        while attempts(&gateway) < round * 60 && running.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(2)).await;
        }
        running.kill().await.unwrap();
    }
    let before = attempts(&gateway);
    assert!(before < ROWS as u64, "no kill came in the middle");
    let report = folder.path().join("report.json");
    let flag = format!("--report={}", report.display());
    let (code, said) = ended(import(&gateway, &file, &[MAP, &flag])).await;
    let counts: serde_json::Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    let sent = counts["sent"].as_u64().unwrap();
    let unknown: u64 = counts["unknown"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(
        sent + counts["replayed"].as_u64().unwrap() + unknown,
        ROWS as u64,
        "{said}"
    );
    assert_eq!(code, Some(i32::from(unknown > 0)), "{said}");
    // Only a row whose caller was killed may be missing, and it is told as unknown.
    let seen = String::from_utf8(seen.lock().unwrap().clone()).unwrap();
    let times = |row| seen.matches(&format!("\"cus_{row}\"")).count();
    let twice: Vec<_> = (0..ROWS).filter(|row| times(*row) > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    let missing = (0..ROWS).filter(|row| times(*row) == 0).count() as u64;
    assert!(missing <= unknown, "{missing} are missing: {said}");
}

#[tokio::test]
async fn without_a_ledger_nothing_is_sent_unless_duplicates_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(None).await;
    let file = folder.path().join("customers.csv");
    fs::write(&file, csv(20)).unwrap();
    let (code, said) = ended(import(&gateway, &file, &[MAP])).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("keeps no ledger") && said.contains("--allow-duplicates"),
        "{said}"
    );
    assert_eq!(attempts(&gateway), 0);
    let (code, said) = ended(import(&gateway, &file, &[MAP, "--allow-duplicates"])).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("sent 20, replayed 0, invalid 0"), "{said}");
    assert_eq!(attempts(&gateway), 20);
}

#[tokio::test]
async fn a_file_with_wrong_rows_is_told_whole_and_nothing_of_it_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let file = folder.path().join("customers.csv");
    let wrong = "f37F2PPh,yesterday,cus_x,user_x,x@example.com,true\nf37F2PPh,2023-01-02T03:04:05Z,,u,,maybe,more\n";
    fs::write(&file, csv(3) + wrong).unwrap();
    let errors = folder.path().join("errors.csv");
    let flag = format!("--errors={}", errors.display());
    for flags in [&[MAP, &flag][..], &[MAP, &flag, "--dry-run"]] {
        let (code, said) = ended(import(&gateway, &file, flags)).await;
        assert_eq!(code, Some(64), "{said}");
        for place in [
            "customers.csv:5: ",
            "customers.csv:6: has 7 cells, and the header has 6",
        ] {
            assert!(said.contains(place), "{said}");
        }
        assert!(
            said.contains("2 of 5 rows are wrong; nothing was sent"),
            "{said}"
        );
    }
    assert_eq!(attempts(&gateway), 0);
    // The rows come back as they were, below their header, and go in once they are mended.
    let kept = fs::read_to_string(&errors).unwrap();
    assert!(
        kept.starts_with(HEADER)
            && kept.ends_with(wrong.lines().last().unwrap().to_owned().as_str())
            || kept.contains(wrong.lines().next().unwrap()),
        "{kept}"
    );
    let mended = kept
        .replace("yesterday", "2023-01-02T03:04:05Z")
        .replace(",,u,,maybe,more", ",y,u,y@example.com,false");
    fs::write(&file, mended).unwrap();
    let (code, said) = ended(import(&gateway, &file, &[MAP])).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("sent 2, "), "{said}");
}

#[tokio::test]
async fn rows_that_fail_are_told_by_reason_and_the_others_go_in() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let row = |site: &str| {
        format!(
            "{{\"siteKey\":\"{site}\",\"eventDate\":\"2023-01-02T03:04:05Z\",\"customer\":{{\"id\":\"c\",\"userId\":\"u\",\
             \"email\":\"a@example.com\",\"hasPaymentMethod\":true}}}}\n"
        )
    };
    let text: String = ["f37F2PPh", "sandbox-409", "sandbox-drop", "f37F2PPx"]
        .map(row)
        .concat();
    let file = folder.path().join("customers.jsonl");
    fs::write(&file, text).unwrap();
    let (code, said) = ended(import(&gateway, &file, &[])).await;
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "sent 2, ",
        "failed 1 (UPSTREAM_CONFLICT 1)",
        "unknown 1 (",
        "customers.jsonl:2: UPSTREAM_CONFLICT",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // Again: what is in isn't sent, and what may be in isn't either.
    let (_, said) = ended(import(&gateway, &file, &[])).await;
    assert!(
        said.contains("sent 0, replayed 2, ") && said.contains("WRITE_UNKNOWN 1"),
        "{said}"
    );
}
