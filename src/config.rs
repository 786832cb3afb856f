//! The command line and the environment: one struct per consumer, whose fields are flags, checked whole
//! before any port is bound. Nothing else reads the environment, and nothing here knows who uses it.

#![expect(
    clippy::doc_markdown,
    reason = "the flags' comments are what --help prints"
)]

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

use std::{ffi::OsStr, net::Ipv4Addr, time::Duration};

use http::uri::Authority;

pub use self::{
    args::{
        CallersArgs, CallersCommand, Cli, Command, HealthcheckArgs, LogConfig, LogFormat,
        ProcessConfig, SandboxConfig, ServeArgs, ServerConfig,
    },
    callers::{CallerConfig, CallersFile, RulesConfig},
    checked::Problems,
    import::{ImportConfig, ImportFormat, ImportOperation, ImportResource, ImportTarget},
    keys::{KeyFiles, Keys},
    ledger::{LedgerAction, LedgerArgs, LedgerCommand, LedgerConfig, Location},
    listener::{ConnectionConfig, granted_cpus},
    log::log_filter,
    misread::Unread,
    telemetry::{Effective, Exports, MetricsExport},
    tokens::{Endpoint, FetchTimes, HttpKeys, JwtConfig, KeySource},
    upstream::{AuthScheme, BreakerConfig, Credentials, Proxy, Resolver, UpstreamConfig},
};
use self::{
    callers::Beside,
    checked::{Checked, address, authority, variable},
};
pub use crate::pem::TlsFiles;

/// Time between looks at files that may change.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

const ADMIN_LISTEN: &str = "ONBOARDFLOW_ADMIN_LISTEN";

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

impl ServeArgs {
    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<ServeConfig, Problems> {
        let mut problems = Problems::default();
        let mut process = self.process;
        process.check(&mut problems);
        process.server.tls = self.tls.check(&mut problems);
        let beside = Beside {
            certificates: self.tls.client_ca.is_some(),
            passes_authorization_on: self.upstream.passes_authorization_on(),
            daily_quota: self.upstream.config.daily_quota,
        };
        let callers = self.callers.check(&beside, &mut problems);
        process.server.callers = callers.unwrap_or_default();
        let upstream = self.upstream.check(&mut problems);
        let ledger = self.ledger.check(&mut problems);
        let config = upstream.map(|upstream| ServeConfig {
            upstream: UpstreamConfig {
                max_response_bytes: process.max_response_bytes,
                ..upstream
            },
            process,
            ledger,
        });
        problems.finish(config)
    }
}

impl SandboxConfig {
    /// The configuration, or everything that is wrong with it.
    pub fn check(mut self) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        self.process.check(&mut problems);
        problems.finish(Some(self))
    }
}

impl HealthcheckArgs {
    /// The address to ask, or what is wrong with it.
    pub fn check(self) -> Result<Authority, Problems> {
        let mut problems = Problems::default();
        let address = match (self.address, variable(ADMIN_LISTEN)) {
            (Some(address), _) => Ok(address),
            (None, None) => authority("127.0.0.1:9090"),
            (None, Some(listen)) => reached_at(&listen),
        };
        let address = address.map_err(|problem| problems.add_named(ADMIN_LISTEN, problem));
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

impl ProcessConfig {
    fn check(&mut self, problems: &mut Problems) {
        if self.server.default_timeout > self.server.max_timeout {
            problems.add("default-timeout", "must not be longer than --max-timeout");
        }
        self.exports = Exports::check(problems);
    }
}
