//! The program itself, at trace level, with its spans sent to a collector.

use tonic::transport::Channel;

use super::assert_hidden;
use crate::{
    support::{Process, Upstream, http},
    tls::until,
};

/// A running gateway.
pub(super) struct Program(Process);

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
        let serve = ["serve", "--log=trace", "--upstream-url", upstream];
        let quickly = [
            "--default-timeout=2s",
            "--drain-delay=0s",
            "--drain-timeout=1s",
        ];
        let collector = collector.url();
        let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str())];
        let args = [&serve, &quickly[..], flags].concat();
        Self(Process::run(&args, &[&traced, environment].concat()).await)
    }

    pub(super) async fn channel(&self) -> Channel {
        self.0.channel().await
    }

    /// Waits until a call is over that its caller gave up.
    pub(super) async fn gave_up(&self) {
        until("the call is counted", async || {
            let (_, metrics) = http("GET", self.0.admin, "/metrics", "").await;
            let mut lines = metrics.lines();
            lines.any(|line| line.contains("reason=\"CANCELLED\"") && !line.ends_with(" 0"))
        })
        .await;
    }

    /// Ends it, and searches all that it has shown.
    pub(super) async fn end(self) -> Shown {
        let mut shown = Vec::new();
        for path in ["/metrics", "/config", "/log"] {
            let (_, answer) = http("GET", self.0.admin, path, "").await;
            assert_hidden(path, &answer);
            shown.push(answer);
        }
        let (code, log) = self.0.stop().await;
        assert_eq!(code, Some(0));
        assert!(log.contains("\"stopped\""), "{log}");
        assert_hidden("the log", &log);
        let metrics = shown.swap_remove(0);
        Shown { metrics, log }
    }
}
