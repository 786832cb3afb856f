//! The program itself, at trace level, with its spans sent to a collector.

use std::{net::SocketAddr, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinHandle,
};
use tonic::transport::Channel;

use super::assert_hidden;
use crate::support::{Upstream, http};

/// A running gateway.
pub(super) struct Program {
    child: Child,
    grpc: SocketAddr,
    admin: SocketAddr,
    log: JoinHandle<String>,
}

/// What it has shown.
pub(super) struct Shown {
    pub(super) metrics: String,
    pub(super) log: String,
}

impl Program {
    /// `serve` with these flags more, and this in its environment.
    pub(super) async fn start(
        upstream: &str,
        collector: &Upstream,
        flags: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let port = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
        let quickly = [
            "--default-timeout=2s",
            "--drain-delay=0s",
            "--drain-timeout=1s",
        ];
        let collector = collector.url();
        let mut child = Command::new(env!("CARGO_BIN_EXE_onboardflow-gateway"))
            .args(["serve", "--log=trace", "--upstream-url", upstream])
            .args(port)
            .args(quickly)
            .args(flags)
            .env_clear()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        let mut addresses = [None; 2];
        while let [_, None] | [None, _] = addresses {
            let line = lines.next_line().await.unwrap().expect("it starts");
            let event: serde_json::Value = serde_json::from_str(&line).expect(&line);
            let address = || event["address"].as_str().unwrap().parse().ok();
            match event["message"].as_str() {
                Some("serving") => addresses[0] = address(),
                Some("admin port") => addresses[1] = address(),
                _ => {}
            }
            log.extend([&line, "\n"]);
        }
        let log = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                log.extend([&line, "\n"]);
            }
            log
        });
        let [Some(grpc), Some(admin)] = addresses else {
            unreachable!()
        };
        Self {
            child,
            grpc,
            admin,
            log,
        }
    }

    pub(super) async fn channel(&self) -> Channel {
        let uri = format!("http://{}", self.grpc);
        Channel::from_shared(uri).unwrap().connect().await.unwrap()
    }

    /// Waits until a call is over that its caller gave up.
    pub(super) async fn gave_up(&self) {
        let counted = async {
            let is_counted =
                |line: &str| line.contains("reason=\"CANCELLED\"") && !line.ends_with(" 0");
            while !http("GET", self.admin, "/metrics", "")
                .await
                .1
                .lines()
                .any(is_counted)
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), counted)
            .await
            .unwrap();
    }

    /// Ends it, and searches all that it has shown.
    pub(super) async fn end(mut self) -> Shown {
        let mut shown = Vec::new();
        for path in ["/metrics", "/config", "/log"] {
            let (_, answer) = http("GET", self.admin, path, "").await;
            assert_hidden(path, &answer);
            shown.push(answer);
        }
        let pid = self.child.id().unwrap().to_string();
        let kill = Command::new("kill").args(["-TERM", &pid]).status();
        kill.await.unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(30), self.child.wait());
        ended.await.unwrap().unwrap();
        let log = self.log.await.unwrap();
        assert!(log.contains("\"stopped\""), "{log}");
        assert_hidden("the log", &log);
        let metrics = shown.swap_remove(0);
        Shown { metrics, log }
    }
}
