//! The command line and the environment: one struct per consumer, checked whole before any port is
//! bound. Nothing else reads the environment.

mod args;
mod checked;
mod upstream;

use std::{net::SocketAddr, time::Duration};

use tracing_subscriber::EnvFilter;

use self::args::{CallArgs, DrainArgs, LogArgs};
pub use self::{
    args::{Cli, Command, HealthcheckArgs, LogFormat, SandboxArgs, ServeArgs},
    checked::Problems,
    upstream::{AuthScheme, Credentials, Proxy, UpstreamConfig},
};

/// Everything that `serve` needs.
#[derive(Debug)]
pub struct ServeConfig {
    /// Address for gRPC.
    pub listen: SocketAddr,
    /// How OnboardFlow is called.
    pub upstream: UpstreamConfig,
    /// How callers are served.
    pub server: ServerConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// Everything that `sandbox` needs.
#[derive(Debug)]
pub struct SandboxConfig {
    /// Address for gRPC.
    pub listen: SocketAddr,
    /// Address for the emulated REST API.
    pub rest_listen: SocketAddr,
    /// Cap on the body of a reply, in bytes.
    pub max_response_bytes: usize,
    /// How callers are served.
    pub server: ServerConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// What is logged, and how.
#[derive(Debug)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// Which events there are lines for.
    pub filter: EnvFilter,
}

/// How callers are served.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Deadline of calls without one.
    pub default_timeout: Duration,
    /// Cap on the deadline of a call.
    pub max_timeout: Duration,
    /// Cap on a request message, in bytes.
    pub max_request_bytes: usize,
    /// Whether reflection is served.
    pub reflection: bool,
    /// Longest wait for calls in flight at the end.
    pub drain_timeout: Duration,
}

impl ServeArgs {
    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<ServeConfig, Problems> {
        let mut problems = Problems::default();
        let server = server_config(&self.calls, &self.drain, &mut problems);
        let max_response_bytes =
            problems.check("max-response-bytes", self.calls.max_response_bytes);
        let upstream = self.upstream.check(max_response_bytes, &mut problems);
        let listen = problems.check("listen", self.listen);
        let log = self.log.check(&mut problems);
        let config = (|| {
            Some(ServeConfig {
                listen: listen?,
                upstream: upstream?,
                server: server?,
                log: log?,
            })
        })();
        problems.finish(config)
    }
}

impl SandboxArgs {
    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<SandboxConfig, Problems> {
        let mut problems = Problems::default();
        let server = server_config(&self.calls, &self.drain, &mut problems);
        let max_response_bytes =
            problems.check("max-response-bytes", self.calls.max_response_bytes);
        let listen = problems.check("listen", self.listen);
        let rest_listen = problems.check("rest-listen", self.rest_listen);
        let log = self.log.check(&mut problems);
        let config = (|| {
            Some(SandboxConfig {
                listen: listen?,
                rest_listen: rest_listen?,
                max_response_bytes: max_response_bytes?,
                server: server?,
                log: log?,
            })
        })();
        problems.finish(config)
    }
}

impl HealthcheckArgs {
    /// The address to ask, or what is wrong with it.
    pub fn check(self) -> Result<SocketAddr, Problems> {
        let mut problems = Problems::default();
        let address = problems.check("addr", self.address);
        problems.finish(address)
    }
}

fn server_config(
    calls: &CallArgs,
    drain: &DrainArgs,
    problems: &mut Problems,
) -> Option<ServerConfig> {
    let default_timeout = problems.check("default-timeout", calls.default_timeout);
    let max_timeout = problems.check("max-timeout", calls.max_timeout);
    if default_timeout > max_timeout && max_timeout.is_some() {
        problems.add("default-timeout", "must not be longer than --max-timeout");
    }
    let max_request_bytes = problems.check("max-request-bytes", calls.max_request_bytes);
    let reflection = problems.check("reflection", calls.reflection);
    let drain_timeout = problems.check("drain-timeout", drain.drain_timeout);
    Some(ServerConfig {
        default_timeout: default_timeout?,
        max_timeout: max_timeout?,
        max_request_bytes: max_request_bytes?,
        reflection: reflection?,
        drain_timeout: drain_timeout?,
    })
}

impl LogArgs {
    fn check(self, problems: &mut Problems) -> Option<LogConfig> {
        let format = problems.check("log-format", self.log_format);
        let filter =
            EnvFilter::try_new(&self.log).map_err(|_| "must be a level or a tracing filter");
        let filter = problems.check("log", filter);
        Some(LogConfig {
            format: format?,
            filter: filter?,
        })
    }
}
