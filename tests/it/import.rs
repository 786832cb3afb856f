//! `import`: the program, before a gateway with a ledger and the emulated OnboardFlow.

mod access;
mod files;
mod kills;
mod outcomes;
mod waits;

use std::{
    env,
    fmt::Write as _,
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
};

use onboardflow_gateway::{
    config::Location, ledger::Ledger, sandbox::OnboardFlow, telemetry::LedgerMetrics,
};
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::{net::TcpListener, process::Command};
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

async fn gateway_before(api: SocketAddr, ledger: Option<&TempDir>) -> Gateway {
    let url = Url::parse(&format!("http://{api}")).unwrap();
    let ledger = ledger.map(ledger_in);
    let config = Config::new(url);
    Gateway::start(Config { ledger, ..config }).await
}

fn ledger_in(folder: &TempDir) -> Ledger {
    let place = format!("sqlite:{}/ledger.db", folder.path().display());
    Ledger::new(&Location::parse(&place).unwrap(), LedgerMetrics::default()).unwrap()
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
    import_to(&format!("http://{}", gateway.address), file, flags)
}

fn import_to(url: &str, file: &Path, flags: &[&str]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "a test's own setting")]
    let program = env::var("IMPORT_BINARY");
    let mut command =
        Command::new(program.unwrap_or(env!("CARGO_BIN_EXE_onboardflow-gateway").to_owned()));
    command
        .arg("import")
        .arg(format!("--to={url}"))
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
    said(command.output().await.unwrap())
}

fn said(output: Output) -> (Option<i32>, String) {
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
