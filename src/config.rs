//! The command line and the environment: one struct per consumer, checked whole before any port is
//! bound. Nothing else reads the environment.

mod args;
mod callers;
mod checked;
mod keys;
mod ledger;
mod listener;
mod log;
mod telemetry;
mod tokens;
mod upstream;

use std::{net::SocketAddr, time::Duration};

use http::uri::Authority;
use tracing_subscriber::filter::Targets;

use self::{args::SharedArgs, callers::Beside, checked::Checked, upstream::CredentialsMode};
pub use self::{
    args::{
        CallersArgs, CallersCommand, Cli, Command, HealthcheckArgs, LogFormat, SandboxArgs,
        ServeArgs,
    },
    callers::{CallerConfig, CallersFile, RulesConfig},
    checked::Problems,
    keys::{KeyFiles, Keys},
    ledger::{LedgerAction, LedgerArgs, LedgerCommand, LedgerConfig, Location},
    listener::{ConnectionConfig, TlsFiles, granted_cpus},
    log::log_filter,
    telemetry::{Effective, Exports},
    tokens::{Endpoint, FetchTimes, HttpKeys, JwtConfig, KeySource},
    upstream::{AuthScheme, Credentials, Proxy, UpstreamConfig},
};
use crate::reload;

/// Everything that `serve` needs.
#[derive(Debug)]
pub struct ServeConfig {
    /// The process around the gateway.
    pub process: ProcessConfig,
    /// How OnboardFlow is called.
    pub upstream: UpstreamConfig,
    /// What remembers writes that name themselves, if anything does.
    pub ledger: Option<LedgerConfig>,
}

/// Everything that `sandbox` needs.
#[derive(Debug)]
pub struct SandboxConfig {
    /// The process around the gateway.
    pub process: ProcessConfig,
    /// Address for the emulated REST API.
    pub rest_listen: SocketAddr,
    /// Cap on the body of a reply, in bytes.
    pub max_response_bytes: usize,
}

/// What a gateway needs whatever it calls.
#[derive(Debug)]
pub struct ProcessConfig {
    /// Address for gRPC.
    pub listen: SocketAddr,
    /// Address for the admin port.
    pub admin_listen: SocketAddr,
    /// How callers are served.
    pub server: ServerConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Which of traces and metrics are sent.
    pub exports: Exports,
}

/// What is logged, and how.
#[derive(Debug)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// Which events there are lines for.
    pub filter: Targets,
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
    /// Time between looks at the files of both, for a change.
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
            reload_interval: reload::INTERVAL,
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(25),
        }
    }
}

impl ServeArgs {
    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<ServeConfig, Problems> {
        let mut problems = Problems::default();
        let passes_authorization_on = self.upstream.credentials == Ok(CredentialsMode::Caller);
        let tls = self.tls.check(&mut problems);
        let beside = Beside {
            certificates: self.tls.client_ca.is_some(),
            passes_authorization_on,
            daily_quota: self.upstream.daily_quota.and_then(Result::ok),
        };
        let callers = self.callers.check(&beside, &mut problems);
        let max_response_bytes =
            problems.check("max-response-bytes", self.shared.max_response_bytes);
        let upstream = self.upstream.check(max_response_bytes, &mut problems);
        let location = self.ledger.check(&mut problems);
        let retention = problems.check("ledger-retention", self.retention.ledger_retention);
        let ports = (self.listen, self.admin_listen);
        let process = self.shared.check(ports, self.drain_delay, &mut problems);
        let config = (|| {
            let retention = retention?;
            let mut process = process?;
            process.server.tls = tls.ok()?;
            process.server.callers = callers?;
            Some(ServeConfig {
                process,
                upstream: upstream?,
                ledger: location.map(|location| LedgerConfig {
                    location,
                    retention,
                }),
            })
        })();
        problems.finish(config)
    }
}

impl SandboxArgs {
    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<SandboxConfig, Problems> {
        let mut problems = Problems::default();
        let rest_listen = problems.check("rest-listen", self.rest_listen);
        let max_response_bytes =
            problems.check("max-response-bytes", self.shared.max_response_bytes);
        let ports = (self.listen, self.admin_listen);
        let process = self.shared.check(ports, self.drain_delay, &mut problems);
        let config = (|| {
            Some(SandboxConfig {
                process: process?,
                rest_listen: rest_listen?,
                max_response_bytes: max_response_bytes?,
            })
        })();
        problems.finish(config)
    }
}

impl HealthcheckArgs {
    /// The address to ask, or what is wrong with it.
    pub fn check(self) -> Result<Authority, Problems> {
        let mut problems = Problems::default();
        let address = self.address;
        let address = address.map_err(|problem| problems.add_named("ADDR", problem));
        problems.finish(address.ok())
    }
}

impl SharedArgs {
    /// With `ports`, the addresses for gRPC and the admin port.
    fn check(
        self,
        ports: (Checked<SocketAddr>, Checked<SocketAddr>),
        drain_delay: Checked<Duration>,
        problems: &mut Problems,
    ) -> Option<ProcessConfig> {
        let listen = problems.check("listen", ports.0);
        let admin_listen = problems.check("admin-listen", ports.1);
        let server = self.server(drain_delay, problems);
        let format = problems.check("log-format", self.log_format);
        let filter = problems.check("log", log_filter(&self.log));
        let exports = Exports::check(problems);
        Some(ProcessConfig {
            listen: listen?,
            admin_listen: admin_listen?,
            server: server?,
            log: LogConfig {
                format: format?,
                filter: filter?,
            },
            exports: exports?,
        })
    }

    fn server(
        &self,
        drain_delay: Checked<Duration>,
        problems: &mut Problems,
    ) -> Option<ServerConfig> {
        let default_timeout = problems.check("default-timeout", self.default_timeout);
        let max_timeout = problems.check("max-timeout", self.max_timeout);
        if default_timeout > max_timeout && max_timeout.is_some() {
            problems.add("default-timeout", "must not be longer than --max-timeout");
        }
        let max_request_bytes = problems.check("max-request-bytes", self.max_request_bytes);
        let reflection = problems.check("reflection", self.reflection);
        let connections = self.connections.check(problems);
        let drain_delay = problems.check("drain-delay", drain_delay);
        let drain_timeout = problems.check("drain-timeout", self.drain_timeout);
        let (workers, max_in_flight, connections) = connections?;
        Some(ServerConfig {
            default_timeout: default_timeout?,
            max_timeout: max_timeout?,
            max_request_bytes: max_request_bytes?,
            reflection: reflection?,
            workers,
            max_in_flight,
            connections,
            drain_delay: drain_delay?,
            drain_timeout: drain_timeout?,
            ..ServerConfig::default()
        })
    }
}
