//! The command line and the environment: one struct per consumer, checked whole before any port is
//! bound. Nothing else reads the environment.

mod args;
mod checked;

use std::{env, fs, net::SocketAddr, path::Path, time::Duration};

use http::HeaderValue;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use tracing_subscriber::EnvFilter;
use url::Url;

pub use self::{
    args::{AuthScheme, Cli, Command, HealthcheckArgs, LogFormat, SandboxArgs, ServeArgs},
    checked::Problems,
};
use self::{
    args::{CallArgs, CredentialsMode, DrainArgs, LogArgs, UpstreamArgs},
    checked::Checked,
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

/// How OnboardFlow is called.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// Base URL, to which the path of a call is added.
    pub base_url: Url,
    /// Certificates that are trusted besides the system's.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Whose key a call carries.
    pub credentials: Credentials,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Cap on the body of a reply, in bytes.
    pub max_response_bytes: usize,
}

/// Whose key a call carries.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// The gateway's own.
    Gateway {
        /// The API key.
        token: SecretString,
        /// How it is presented.
        scheme: AuthScheme,
    },
    /// The caller's `authorization` metadata is passed on.
    Caller,
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

impl UpstreamArgs {
    fn check(
        self,
        max_response_bytes: Option<usize>,
        problems: &mut Problems,
    ) -> Option<UpstreamConfig> {
        let base_url = problems.check("upstream-url", self.upstream_url.clone());
        let connect_timeout = problems.check("connect-timeout", self.connect_timeout);
        let credentials = self.credentials(problems);
        let extra_roots = match self.upstream_ca {
            None => Some(Vec::new()),
            Some(file) => problems.check("upstream-ca", read_certificates(&file)),
        };
        Some(UpstreamConfig {
            base_url: base_url?,
            extra_roots: extra_roots?,
            credentials: credentials?,
            connect_timeout: connect_timeout?,
            max_response_bytes: max_response_bytes?,
        })
    }

    fn credentials(&self, problems: &mut Problems) -> Option<Credentials> {
        let variable = token_variable();
        let scheme = problems.check("auth-scheme", self.auth_scheme);
        let mode = problems.check("credentials", self.credentials)?;
        let token = match (mode, variable, &self.token_file) {
            (CredentialsMode::Caller, None, None) => return Some(Credentials::Caller),
            (CredentialsMode::Caller, _, _) => {
                problems.add(
                    "credentials",
                    "with `caller` the gateway must not hold a key too",
                );
                return None;
            }
            (CredentialsMode::Gateway, Some(_), Some(_)) => {
                problems.add(
                    "token-file",
                    "can't be given together with ONBOARDFLOW_TOKEN",
                );
                return None;
            }
            (CredentialsMode::Gateway, None, None) => {
                problems.add(
                    "token-file",
                    "is required, or ONBOARDFLOW_TOKEN with the API key",
                );
                return None;
            }
            (CredentialsMode::Gateway, Some(token), None) => token,
            (CredentialsMode::Gateway, None, Some(file)) => fs::read_to_string(file)
                .map_err(|error| problems.add("token-file", format_args!("can't be read: {error}")))
                .ok()?,
        };
        let token = problems.check("token-file", check_token(&token))?;
        Some(Credentials::Gateway {
            token,
            scheme: scheme?,
        })
    }
}

/// The API key in the environment. An empty variable is a missing one: that is how a manifest
/// leaves it out.
fn token_variable() -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a key has a variable and, on purpose, no flag"
    )]
    let variable = env::var("ONBOARDFLOW_TOKEN");
    variable.ok().filter(|token| !token.is_empty())
}

/// The certificates in a PEM file.
fn read_certificates(file: &Path) -> Checked<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|_| "can't be read as a PEM file with certificates")?;
    if certificates.is_empty() {
        Err("holds no certificate")
    } else {
        Ok(certificates)
    }
}

/// An API key: one word that a header can hold.
fn check_token(text: &str) -> Checked<SecretString> {
    let token = text.trim();
    let is_word = !token.is_empty() && token.chars().all(|c| c.is_ascii_graphic());
    if is_word {
        Ok(SecretString::from(token))
    } else {
        Err("the API key must be one word of printable ASCII")
    }
}

impl AuthScheme {
    /// The value of the `Authorization` header for a key, marked as sensitive.
    pub fn header(
        self,
        token: &SecretString,
    ) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        let scheme = match self {
            Self::Token => "Token",
            Self::Bearer => "Bearer",
        };
        let mut value = HeaderValue::try_from(format!("{scheme} {}", token.expose_secret()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
