//! The listener's flags: connections, limits and TLS.

use std::{num::NonZeroUsize, path::PathBuf, thread, time::Duration};

use clap::Args;

use super::checked::{Checked, Noted, Problems, check, checked, count, timeout};
use crate::pem::{self, TlsFiles};

/// How connections live, and how many calls there are at once.
#[derive(Debug, Args)]
pub(super) struct ConnectionArgs {
    /// Threads that serve connections [default: the CPUs granted]
    #[arg(long, value_name = "COUNT", value_parser = checked(count))]
    pub(super) workers: Option<Checked<usize>>,
    /// Calls at once, over all workers, a quarter of them on one connection or by one caller; more are
    /// refused.
    #[arg(long, value_name = "COUNT", default_value = "1024", value_parser = checked(count))]
    pub(super) max_in_flight: Checked<usize>,
    /// Connections at once, over all workers, and at most 256 less than the process may have files open.
    /// For a further one, one without a call is closed; without such a one, the further one is.
    #[arg(long, value_name = "COUNT", default_value = "10000", value_parser = checked(count))]
    max_connections: Checked<usize>,
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

/// TLS.
#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// PEM file with the certificate of the gRPC port, and what chains it to its CA. A change of
    /// this file and the three below is picked up within seconds.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's key.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// PEM file with the CAs of callers: demands a client certificate from every one of them.
    #[arg(long, value_name = "FILE")]
    pub(super) client_ca: Option<PathBuf>,
}

/// How a connection lives.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// Connections at once, over all workers.
    pub max_open: usize,
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

/// The CPUs that the container is granted: its cgroup's quota (v1 and v2) and CPU affinity.
#[must_use]
pub fn granted_cpus() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl ConnectionArgs {
    /// The life of a connection.
    pub(super) fn check(&self, problems: &mut Problems) -> Option<ConnectionConfig> {
        let max_open = check!(problems, self.max_connections);
        let max_age = check!(problems, self.max_connection_age);
        let max_age_grace = check!(problems, self.max_connection_age_grace);
        let max_idle = check!(problems, self.max_connection_idle);
        Some(ConnectionConfig {
            max_open: max_open?,
            max_age: max_age?,
            max_age_grace: max_age_grace?,
            max_idle: max_idle?,
            handshake_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(20),
            answer_timeout: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
        })
    }
}

impl TlsArgs {
    /// The files, where TLS is asked for.
    pub(super) fn check(&self, problems: &mut Problems) -> Result<Option<TlsFiles>, Noted> {
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
        match pem::check(&files) {
            Ok(()) => Ok(Some(files)),
            Err(unusable) => {
                for error in unusable {
                    problems.add(error.flag(), error);
                }
                Err(Noted)
            }
        }
    }
}
