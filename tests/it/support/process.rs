//! The program in a process of its own: on ports that nobody else has, with its log read all the time.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use onboardflow_gateway::proto::customer_service_client::CustomerServiceClient;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};
use tonic::transport::Channel;
use url::Url;

const PATIENCE: Duration = Duration::from_secs(60);
/// On ports that nobody else has, with a log that can be read.
const READABLE: [&str; 3] = [
    "--listen=127.0.0.1:0",
    "--admin-listen=127.0.0.1:0",
    "--log-format=json",
];

/// The binary, with none of its variables set but these.
pub fn program(args: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onboardflow-gateway"));
    command
        .args(args)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A gateway that serves.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    lines: mpsc::UnboundedReceiver<String>,
    log: String,
}

impl Process {
    /// `serve` in front of this upstream, with this ledger.
    pub async fn start(upstream: &Url, ledger: &str, key: &str, flags: &[&str]) -> Self {
        let upstream = format!("--upstream-url={upstream}");
        let args = [&["serve", &upstream], flags].concat();
        let variables = [("ONBOARDFLOW_TOKEN", key), ("ONBOARDFLOW_LEDGER", ledger)];
        Self::run(&args, &variables).await
    }

    /// The program with these arguments and variables.
    pub async fn run(args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::of(program(args, variables)).await
    }

    /// What this command starts, once it serves.
    pub async fn of(mut command: Command) -> Self {
        let mut child = command
            .args(READABLE)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let (read, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = log.next_line().await {
                // A test may be done with the log before the program is.
                let _ = read.send(line);
            }
        });
        let nowhere = SocketAddr::from(([0; 4], 0));
        let mut process = Self {
            child,
            address: nowhere,
            admin: nowhere,
            lines,
            log: String::new(),
        };
        process.admin = process.address_in("\"admin port\"").await;
        process.address = process.address_in("\"serving\"").await;
        process
    }

    async fn address_in(&mut self, message: &str) -> SocketAddr {
        let line = self.line_with(message).await;
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// The next line of the log with this in it.
    pub async fn line_with(&mut self, part: &str) -> Value {
        let found = async {
            loop {
                let line = self.lines.recv().await?;
                self.log.extend([&line, "\n"]);
                if line.contains(part) {
                    return Some(line);
                }
            }
        };
        let line = timeout(PATIENCE, found).await.ok().flatten();
        let line = line.unwrap_or_else(|| panic!("no line with {part} in {}", self.log));
        serde_json::from_str(&line).expect(&line)
    }

    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends a signal, such as `-TERM`.
    pub async fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        let status = kill.args([name, &self.id().to_string()]).status().await;
        assert!(status.unwrap().success());
    }

    /// The exit code, once it has ended by itself, and all that it has logged.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let code = ended.expect("it ends").unwrap().code();
        while let Some(line) = self.lines.recv().await {
            self.log.extend([&line, "\n"]);
        }
        (code, self.log)
    }

    /// SIGTERM, and what comes of it.
    pub async fn stop(self) -> (Option<i32>, String) {
        self.signal("-TERM").await;
        self.ended().await
    }

    /// SIGKILL: nothing is drained, nothing is written.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.address);
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> CustomerServiceClient<Channel> {
        CustomerServiceClient::new(self.channel().await)
    }
}
