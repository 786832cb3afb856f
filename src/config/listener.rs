//! The listener's flags: connections, limits, TLS, and who may call.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clap::Args;

use super::{
    AllowList,
    checked::{Checked, Problems, checked, count, timeout},
};
use crate::server::{check_jwks, check_tls};

/// How connections live, and how many calls there are at once.
#[derive(Debug, Args)]
pub(super) struct ConnectionArgs {
    /// Threads that serve connections [default: the CPUs granted]
    #[arg(long, value_name = "COUNT", value_parser = checked(count))]
    workers: Option<Checked<usize>>,
    /// Calls at once, over all workers; more are refused.
    #[arg(long, value_name = "COUNT", default_value = "1024", value_parser = checked(count))]
    max_in_flight: Checked<usize>,
    /// Age, give or take 10%, at which a connection is closed, so that callers spread anew.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = checked(timeout))]
    max_connection_age: Checked<Duration>,
    /// Longest wait for the calls on a connection that is closed for its age.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = checked(timeout))]
    max_connection_age_grace: Checked<Duration>,
    /// Time without a call after which a connection is closed.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = checked(timeout))]
    max_connection_idle: Checked<Duration>,
}

/// TLS, and who may call.
#[derive(Debug, Args)]
pub(super) struct CallerArgs {
    /// PEM file with the certificate of the gRPC port, and what chains it to its CA. A change of
    /// this file and the three below is picked up within seconds.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's key.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// PEM file with the CAs of callers: demands a client certificate from every one of them.
    #[arg(long, value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// JWKS file with the keys that sign callers' tokens: demands a bearer JWT (RS256 or ES256) in
    /// the `authorization` metadata of every call.
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// Issuer (`iss`) that a token must name.
    #[arg(long, value_name = "ISSUER")]
    jwt_issuer: Option<String>,
    /// Audience (`aud`) that a token must name.
    #[arg(long, value_name = "AUDIENCE")]
    jwt_audience: Option<String>,
    /// A caller that may call, by a SAN of its certificate (DNS name or URI, such as a SPIFFE id) or
    /// the subject of its token; a prefix `dns:`, `uri:` or `sub:` says which. A `*` stands for the first
    /// label of a DNS name, the last path segment of a URI, or the last part of a subject such as
    /// system:serviceaccount:prod:*. With certificate and token both demanded, both must be allowed.
    /// Repeatable, or separated by commas; without it, everyone that is identified may.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allow_caller: Vec<String>,
}

/// How a connection lives. The default is what the flags' defaults say.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Age at which it is closed, ±10%.
    pub max_age: Duration,
    /// Longest wait for its calls then.
    pub max_age_grace: Duration,
    /// Time without a call after which it is closed.
    pub max_idle: Duration,
    /// Longest time to the end of the HTTP/2 preface, TLS handshake included.
    pub handshake_timeout: Duration,
    /// Longest time for a write that the peer doesn't take.
    pub stall_timeout: Duration,
    /// Time for a peer to take a call's answer, counted from the longest deadline on. A connection
    /// with one that takes longer is closed, at the latest after twice both.
    pub answer_timeout: Duration,
    /// Time between pings.
    pub keepalive_interval: Duration,
    /// Longest wait for the answer to a ping.
    pub keepalive_timeout: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(30 * 60),
            max_age_grace: Duration::from_secs(30),
            max_idle: Duration::from_secs(15 * 60),
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(20),
            answer_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

/// The files of the gRPC port's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// CAs of client certificates, which are demanded then.
    pub client_ca: Option<PathBuf>,
}

/// How a caller's token is checked.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// File with the keys.
    pub jwks: PathBuf,
    /// Issuer that a token must name.
    pub issuer: String,
    /// Audience that a token must name.
    pub audience: String,
}

/// Who may call.
#[derive(Clone, Debug, Default)]
pub struct CallerConfig {
    /// How tokens are checked, where they are demanded.
    pub jwt: Option<JwtConfig>,
    /// The callers that may call.
    pub allow: AllowList,
}

/// The CPUs that the container is granted: its cgroup's quota (v1 and v2) and CPU affinity.
#[must_use]
pub fn granted_cpus() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl ConnectionArgs {
    /// Number of workers, calls at once, and the life of a connection.
    pub(super) fn check(
        &self,
        problems: &mut Problems,
    ) -> Option<(usize, usize, ConnectionConfig)> {
        let workers = problems.check(
            "workers",
            self.workers.unwrap_or_else(|| Ok(granted_cpus())),
        );
        let max_in_flight = problems.check("max-in-flight", self.max_in_flight);
        let age = problems.check("max-connection-age", self.max_connection_age);
        let grace = problems.check("max-connection-age-grace", self.max_connection_age_grace);
        let idle = problems.check("max-connection-idle", self.max_connection_idle);
        let config = ConnectionConfig {
            max_age: age?,
            max_age_grace: grace?,
            max_idle: idle?,
            ..ConnectionConfig::default()
        };
        Some((workers?, max_in_flight?, config))
    }
}

/// What is wrong stands among the problems already.
struct Noted;

impl CallerArgs {
    pub(super) fn check(
        &self,
        passes_authorization_on: bool,
        problems: &mut Problems,
    ) -> Option<(Option<TlsFiles>, CallerConfig)> {
        let tls = self.tls(problems);
        let jwt = self.jwt(problems);
        if self.jwks_file.is_some() && passes_authorization_on {
            problems.add(
                "jwks-file",
                "can't be given together with --credentials caller: both are about the \
                 `authorization` metadata",
            );
        }
        let allow = AllowList::parse(self.allow_caller.iter().map(String::as_str));
        let allow = problems.check("allow-caller", allow);
        if !self.allow_caller.is_empty() && self.client_ca.is_none() && self.jwks_file.is_none() {
            problems.add("allow-caller", "needs --client-ca or --jwks-file");
        }
        let callers = CallerConfig {
            jwt: jwt.ok()?,
            allow: allow?,
        };
        Some((tls.ok()?, callers))
    }

    fn tls(&self, problems: &mut Problems) -> Result<Option<TlsFiles>, Noted> {
        let (cert, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) if self.client_ca.is_none() => return Ok(None),
            (None, None) => {
                problems.add("client-ca", "needs --tls-cert and --tls-key");
                return Err(Noted);
            }
            (Some(_), None) => {
                problems.add("tls-key", "is required with --tls-cert");
                return Err(Noted);
            }
            (None, Some(_)) => {
                problems.add("tls-cert", "is required with --tls-key");
                return Err(Noted);
            }
        };
        let files = TlsFiles {
            cert: cert.clone(),
            key: key.clone(),
            client_ca: self.client_ca.clone(),
        };
        match check_tls(&files) {
            Ok(()) => Ok(Some(files)),
            Err(unusable) => {
                for error in unusable {
                    problems.add(error.flag(), error);
                }
                Err(Noted)
            }
        }
    }

    fn jwt(&self, problems: &mut Problems) -> Result<Option<JwtConfig>, Noted> {
        let given = [&self.jwt_issuer, &self.jwt_audience];
        let Some(jwks) = &self.jwks_file else {
            if given.iter().any(|flag| flag.is_some()) {
                problems.add(
                    "jwks-file",
                    "is required with --jwt-issuer and --jwt-audience",
                );
                return Err(Noted);
            }
            return Ok(None);
        };
        for (flag, value) in ["jwt-issuer", "jwt-audience"].iter().zip(given) {
            if value.as_deref().is_none_or(str::is_empty) {
                problems.add(flag, "is required with --jwks-file");
            }
        }
        check_keys(jwks, problems);
        Ok(Some(JwtConfig {
            jwks: jwks.clone(),
            issuer: self.jwt_issuer.clone().ok_or(Noted)?,
            audience: self.jwt_audience.clone().ok_or(Noted)?,
        }))
    }
}

fn check_keys(jwks: &Path, problems: &mut Problems) {
    if let Err(error) = check_jwks(jwks) {
        problems.add("jwks-file", error);
    }
}
