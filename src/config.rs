//! The command line and the environment: one struct per consumer, checked whole before any port is
//! bound. Nothing else reads the environment.

mod allow;
mod args;
mod checked;
mod keys;
mod listener;
mod telemetry;
mod upstream;

use std::{net::SocketAddr, time::Duration};

use tracing_subscriber::EnvFilter;

pub use self::{
    allow::{AllowList, Listed},
    args::{Cli, Command, HealthcheckArgs, LogFormat, SandboxArgs, ServeArgs},
    checked::Problems,
    keys::{KeyFiles, Keys},
    listener::{CallerConfig, ConnectionConfig, JwtConfig, TlsFiles, granted_cpus},
    telemetry::{Effective, Tracing},
    upstream::{AuthScheme, Credentials, Proxy, UpstreamConfig},
};
use self::{
    args::{CallArgs, DrainArgs, LogArgs},
    listener::ConnectionArgs,
    upstream::CredentialsMode,
};

/// Everything that `serve` needs.
#[derive(Debug)]
pub struct ServeConfig {
    /// Address for gRPC.
    pub listen: SocketAddr,
    /// Address for the admin port.
    pub admin_listen: SocketAddr,
    /// How OnboardFlow is called.
    pub upstream: UpstreamConfig,
    /// How callers are served.
    pub server: ServerConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Whether calls are traced.
    pub tracing: Tracing,
}

/// Everything that `sandbox` needs.
#[derive(Debug)]
pub struct SandboxConfig {
    /// Address for gRPC.
    pub listen: SocketAddr,
    /// Address for the admin port.
    pub admin_listen: SocketAddr,
    /// Address for the emulated REST API.
    pub rest_listen: SocketAddr,
    /// Cap on the body of a reply, in bytes.
    pub max_response_bytes: usize,
    /// How callers are served.
    pub server: ServerConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Whether calls are traced.
    pub tracing: Tracing,
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
    /// Threads that serve connections, that of the acceptor among them.
    pub workers: usize,
    /// Calls at once, over all workers.
    pub max_in_flight: usize,
    /// How a connection lives.
    pub connections: ConnectionConfig,
    /// The files for TLS, or none for plaintext.
    pub tls: Option<TlsFiles>,
    /// Who may call.
    pub callers: CallerConfig,
    /// Time between looks at the files of both, whether they have changed.
    pub reload_interval: Duration,
    /// Time between `NOT_SERVING` and the end of accepting.
    pub drain_delay: Duration,
    /// Longest wait for calls in flight at the end.
    pub drain_timeout: Duration,
}

impl Default for ServerConfig {
    /// What the flags' defaults say.
    fn default() -> Self {
        Self {
            default_timeout: Duration::from_secs(10),
            max_timeout: Duration::from_secs(60),
            max_request_bytes: 64 << 10,
            reflection: true,
            workers: granted_cpus(),
            max_in_flight: 1024,
            connections: ConnectionConfig::default(),
            tls: None,
            callers: CallerConfig::default(),
            reload_interval: Duration::from_secs(1),
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(25),
        }
    }
}

impl ServeArgs {
    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<ServeConfig, Problems> {
        let mut problems = Problems::default();
        let drain_delay = problems.check("drain-delay", self.drain_delay);
        let passes_authorization_on = self.upstream.credentials == Ok(CredentialsMode::Caller);
        let callers = self.callers.check(passes_authorization_on, &mut problems);
        let server = server_config(&self.calls, &self.connections, &self.drain, &mut problems);
        let max_response_bytes =
            problems.check("max-response-bytes", self.calls.max_response_bytes);
        let upstream = self.upstream.check(max_response_bytes, &mut problems);
        let listen = problems.check("listen", self.listen);
        let admin_listen = problems.check("admin-listen", self.admin_listen);
        let log = self.log.check(&mut problems);
        let tracing = Tracing::check(&mut problems);
        let config = (|| {
            let (tls, callers) = callers?;
            Some(ServeConfig {
                listen: listen?,
                admin_listen: admin_listen?,
                upstream: upstream?,
                server: ServerConfig {
                    tls,
                    callers,
                    drain_delay: drain_delay?,
                    ..server?
                },
                log: log?,
                tracing: tracing?,
            })
        })();
        problems.finish(config)
    }
}

impl SandboxArgs {
    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<SandboxConfig, Problems> {
        let mut problems = Problems::default();
        let drain_delay = problems.check("drain-delay", self.drain_delay);
        let server = server_config(&self.calls, &self.connections, &self.drain, &mut problems);
        let max_response_bytes =
            problems.check("max-response-bytes", self.calls.max_response_bytes);
        let listen = problems.check("listen", self.listen);
        let admin_listen = problems.check("admin-listen", self.admin_listen);
        let rest_listen = problems.check("rest-listen", self.rest_listen);
        let log = self.log.check(&mut problems);
        let tracing = Tracing::check(&mut problems);
        let config = (|| {
            Some(SandboxConfig {
                listen: listen?,
                admin_listen: admin_listen?,
                rest_listen: rest_listen?,
                max_response_bytes: max_response_bytes?,
                server: ServerConfig {
                    drain_delay: drain_delay?,
                    ..server?
                },
                log: log?,
                tracing: tracing?,
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
    connections: &ConnectionArgs,
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
    let (workers, max_in_flight, connections) = connections.check(problems)?;
    Some(ServerConfig {
        default_timeout: default_timeout?,
        max_timeout: max_timeout?,
        max_request_bytes: max_request_bytes?,
        reflection: reflection?,
        workers,
        max_in_flight,
        connections,
        drain_timeout: drain_timeout?,
        ..ServerConfig::default()
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
