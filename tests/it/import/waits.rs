//! What an import waits for, and how it is told to end.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command as Signal, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::Child,
    sync::Semaphore,
};

use super::{HEADER, MAP, attempts, csv, ended, gateway, gateway_before, import, import_to, said};
use crate::{
    support::{CREATED, Gateway, Upstream, response},
    tls::until,
};

fn send(signal: &str, running: &Child) {
    let id = running.id().unwrap().to_string();
    let sent = Signal::new("kill").args([signal, &id]).status().unwrap();
    assert!(sent.success());
}

fn interrupt(running: &Child) {
    send("-INT", running);
}

/// Waits until it says this on standard error, and goes on reading that.
async fn says(running: &mut Child, what: &str) {
    let mut lines = BufReader::new(running.stderr.take().unwrap()).lines();
    loop {
        let line = lines.next_line().await.unwrap();
        if line.expect("it ended").contains(what) {
            break;
        }
    }
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
}

#[tokio::test]
async fn an_interrupt_finishes_what_is_under_way_and_says_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let answers = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&answers);
    let upstream = Upstream::with(move |mut stream| {
        let held = Arc::clone(&held);
        async move {
            held.acquire().await.unwrap().forget();
            let answer = response(200, &[("content-type", "application/json")], CREATED);
            stream.write_all(&answer).await.unwrap();
        }
    })
    .await;
    let gateway = gateway_before(upstream.address, Some(&folder)).await;
    let file = folder.path().join("customers.csv");
    fs::write(&file, of_one_customer(100)).unwrap();
    let flags = [MAP, "--concurrency=3"];
    let running = import(&gateway, &file, &flags).spawn().unwrap();
    until("three rows are under way", async || {
        upstream.received().len() == 3
    })
    .await;
    interrupt(&running);
    // Nothing tells when the signal has arrived, but a row that were sent after it would be held.
    tokio::time::sleep(Duration::from_millis(500)).await;
    answers.add_permits(3);
    let (code, said) = said(running.wait_with_output().await.unwrap());
    assert_eq!(code, Some(130), "{said}");
    assert!(
        said.starts_with("sent 3, replayed 0, invalid 0, failed 0, unknown 0"),
        "{said}"
    );
    assert_eq!(upstream.received().len(), 3);
}

#[tokio::test]
async fn an_interrupt_ends_the_wait_for_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    for flags in [
        &[MAP, "--format=csv"][..],
        &[MAP, "--format=csv", "--dry-run"],
    ] {
        let mut command = import(&gateway, Path::new("-"), flags);
        let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = running.stdin.take().unwrap();
        let rows = csv(2) + "wrong\n";
        stdin.write_all(rows.as_bytes()).await.unwrap();
        says(&mut running, "-:4: has 1 cells").await;
        interrupt(&running);
        let (code, said) = said(running.wait_with_output().await.unwrap());
        assert_eq!(code, Some(130), "{said}");
        drop(stdin);
    }
    assert_eq!(attempts(&gateway), 2);
}

#[tokio::test]
async fn the_end_of_the_terminal_session_does_not_end_an_import() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let mut command = import(&gateway, Path::new("-"), &[MAP, "--format=csv"]);
    let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = running.stdin.take().unwrap();
    let rows = csv(2);
    let last = rows.rfind("f37F2PPh").unwrap();
    let before = rows[..last].to_owned() + "wrong\n";
    stdin.write_all(before.as_bytes()).await.unwrap();
    says(&mut running, "-:3: has 1 cells").await;
    send("-HUP", &running);
    stdin.write_all(&rows.as_bytes()[last..]).await.unwrap();
    drop(stdin);
    let (code, said) = said(running.wait_with_output().await.unwrap());
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.starts_with("sent 2, replayed 0, invalid 1, "),
        "{said}"
    );
}

/// Rows for the customer that [`CREATED`] is the answer to.
fn of_one_customer(rows: usize) -> String {
    let mut text = HEADER.replace('\n', ",custom_properties.row\n");
    for row in 0..rows {
        let customer =
            "f37F2PPh,2020-03-01T00:00:00Z,cus_123XYZ,user_123XYZ,test@onboardflow.com,true";
        writeln!(text, "{customer},{row}").unwrap();
    }
    text
}

/// Answers the first calls with these statuses, and asks to wait for a second.
async fn unwilling(statuses: &'static [u16]) -> Upstream {
    let calls = AtomicUsize::new(0);
    Upstream::with(move |mut stream| {
        let refusal = statuses.get(calls.fetch_add(1, Relaxed));
        let json = ("content-type", "application/json");
        let answer = match refusal {
            Some(status) => response(
                *status,
                &[json, ("retry-after", "1")],
                "{\"detail\":\"later\"}",
            ),
            None => response(200, &[json], CREATED),
        };
        async move { stream.write_all(&answer).await.unwrap() }
    })
    .await
}

#[tokio::test]
async fn an_outage_and_a_spent_day_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = unwilling(&[503, 429, 503]).await;
    let gateway = gateway_before(upstream.address, Some(&folder)).await;
    let file = folder.path().join("customers.csv");
    fs::write(&file, of_one_customer(4)).unwrap();
    let (code, said) = ended(import(&gateway, &file, &[MAP, "--concurrency=1"])).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("sent 4, replayed 0, invalid 0, failed 0, unknown 0"),
        "{said}"
    );
    assert_eq!(upstream.received().len(), 7);
}

/// Stands before a gateway, closes the first connections, and passes on the later ones.
async fn unsteady(gateway: SocketAddr, closes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for count in 0.. {
            let (mut caller, _) = listener.accept().await.unwrap();
            if count >= closes {
                let mut gateway = TcpStream::connect(gateway).await.unwrap();
                tokio::spawn(async move {
                    tokio::io::copy_bidirectional(&mut caller, &mut gateway).await
                });
            }
        }
    });
    address
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let url = format!("http://{}", unsteady(gateway.address, 1).await);
    let file = folder.path().join("customers.csv");
    fs::write(&file, csv(4)).unwrap();
    let (code, said) = ended(import_to(&url, &file, &[MAP])).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("sent 4, "), "{said}");
    assert_eq!(attempts(&gateway), 4);
}

/// Runs it until it says what it waits for, then ends it.
async fn until_spent(gateway: &Gateway, file: &Path) -> String {
    let flags = [MAP, "--daily-budget=30"];
    let mut running = import(gateway, file, &flags).spawn().unwrap();
    let waits = "0 left of today's budget; waiting for ";
    says(&mut running, waits).await;
    interrupt(&running);
    let (code, said) = said(running.wait_with_output().await.unwrap());
    assert_eq!(code, Some(130), "{said}");
    said
}

/// Must not be run over midnight UTC.
#[tokio::test]
async fn a_days_budget_holds_for_all_runs_of_the_day() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let file = folder.path().join("customers.csv");
    fs::write(&file, csv(40)).unwrap();
    let said = until_spent(&gateway, &file).await;
    assert!(said.starts_with("sent 30, replayed 0, "), "{said}");
    let said = until_spent(&gateway, &file).await;
    assert!(said.starts_with("sent 0, replayed 30, "), "{said}");
    assert_eq!(attempts(&gateway), 30);
}
