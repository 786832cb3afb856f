//! The command line and the environment: one struct per consumer, checked whole before any port is
//! bound. Nothing else reads the environment.

mod args;
mod callers;
mod checked;
mod import;
mod keys;
mod ledger;
mod listener;
mod log;
mod misread;
mod telemetry;
mod tokens;
mod upstream;

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use http::uri::Authority;
use tracing_subscriber::filter::Targets;

use self::{
    args::SharedArgs,
    callers::Beside,
    checked::{Checked, address, authority, check, proven, variable},
    upstream::CredentialsMode,
};
pub use self::{
    args::{
        CallersArgs, CallersCommand, Cli, Command, HealthcheckArgs, LogFormat, SandboxArgs,
        ServeArgs,
    },
    callers::{CallerConfig, CallersFile, RulesConfig},
    checked::Problems,
    import::{
        ImportArgs, ImportConfig, ImportFormat, ImportOperation, ImportResource, ImportTarget,
    },
    keys::{KeyFiles, Keys},
    ledger::{LedgerAction, LedgerArgs, LedgerCommand, LedgerConfig, Location},
    listener::{ConnectionConfig, granted_cpus},
    log::log_filter,
    misread::Unread,
    telemetry::{Effective, Exports, MetricsExport},
    tokens::{Endpoint, FetchTimes, HttpKeys, JwtConfig, KeySource},
    upstream::{AuthScheme, BreakerConfig, Credentials, Proxy, Resolver, UpstreamConfig},
};
pub use crate::pem::TlsFiles;

/// Time between looks at files that may change.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

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
    /// What the flags of `serve` say when nobody gives them.
    fn default() -> Self {
        let args = ServeArgs::default();
        let config = (args.shared).server(args.drain_delay, &mut Problems::default());
        proven(config.ok_or("a default"))
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
        let shared = self.shared;
        let max_response_bytes = check!(problems, shared.max_response_bytes);
        let upstream = self.upstream.check(max_response_bytes, &mut problems);
        let location = self.ledger.check(&mut problems);
        let retention = problems.check("ledger-retention", self.retention.ledger_retention);
        let ports = (self.listen, self.admin_listen);
        let process = shared.check(ports, self.drain_delay, &mut problems);
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
        let rest_listen = check!(problems, self.rest_listen);
        let shared = self.shared;
        let max_response_bytes = check!(problems, shared.max_response_bytes);
        let ports = (self.listen, self.admin_listen);
        let process = shared.check(ports, self.drain_delay, &mut problems);
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
        let (name, address) = match (self.address, variable("ONBOARDFLOW_ADMIN_LISTEN")) {
            (Some(address), _) => ("ADDR", address),
            (None, None) => ("ADDR", authority("127.0.0.1:9090")),
            (None, Some(listen)) => ("ONBOARDFLOW_ADMIN_LISTEN", reached_at(&listen)),
        };
        let address = address.map_err(|problem| problems.add_named(name, problem));
        problems.finish(address.ok())
    }
}

/// Where a gateway of this machine that listens on this address is reached.
fn reached_at(listen: &OsStr) -> Checked<Authority> {
    let mut address = address(&listen.to_string_lossy())?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    authority(&address.to_string())
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
        let format = check!(problems, self.log_format);
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
        let default_timeout = check!(problems, self.default_timeout);
        let max_timeout = check!(problems, self.max_timeout);
        if default_timeout > max_timeout && max_timeout.is_some() {
            problems.add("default-timeout", "must not be longer than --max-timeout");
        }
        let max_request_bytes = check!(problems, self.max_request_bytes);
        let reflection = check!(problems, self.reflection);
        let flags = &self.connections;
        let workers = flags.workers.unwrap_or_else(|| Ok(granted_cpus()));
        let workers = problems.check("workers", workers);
        let max_in_flight = check!(problems, flags.max_in_flight);
        let connections = flags.check(problems);
        let drain_delay = problems.check("drain-delay", drain_delay);
        let drain_timeout = check!(problems, self.drain_timeout);
        Some(ServerConfig {
            default_timeout: default_timeout?,
            max_timeout: max_timeout?,
            max_request_bytes: max_request_bytes?,
            reflection: reflection?,
            workers: workers?,
            max_in_flight: max_in_flight?,
            connections: connections?,
            tls: None,
            callers: CallerConfig::default(),
            reload_interval: RELOAD_INTERVAL,
            drain_delay: drain_delay?,
            drain_timeout: drain_timeout?,
        })
    }
}
