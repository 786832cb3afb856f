//! A gateway in a process of its own, which can be killed.

use std::{net::SocketAddr, process::Stdio};

use onboardflow_gateway::proto::customer_service_client::CustomerServiceClient;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};
use tonic::transport::Channel;
use url::Url;

pub struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// In front of this upstream, with this ledger.
    pub async fn start(upstream: &Url, ledger: &str, key: &str, flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onboardflow-gateway"))
            .args(["serve", "--listen=127.0.0.1:0"])
            .args(["--admin-listen=127.0.0.1:0", "--log-format=json"])
            .arg(format!("--upstream-url={upstream}"))
            .args(flags)
            .env_clear()
            .env("ONBOARDFLOW_TOKEN", key)
            .env("ONBOARDFLOW_LEDGER", ledger)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("it serves");
            if line.contains("\"serving\"") {
                let (_, rest) = line.split_once("\"address\":\"").unwrap();
                break rest.split('"').next().unwrap().parse().unwrap();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    /// SIGKILL: nothing is drained, nothing is written.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub async fn client(&self) -> CustomerServiceClient<Channel> {
        let uri = format!("http://{}", self.address);
        let channel = Channel::from_shared(uri).unwrap().connect().await.unwrap();
        CustomerServiceClient::new(channel)
    }
}
