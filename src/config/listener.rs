//! How connections live, and the files of TLS. Knows nothing of calls.

use std::{num::NonZeroUsize, path::PathBuf, thread, time::Duration};

use clap::Args;

use super::checked::{Problems, count, timeout};
use crate::pem::{self, TlsFiles};

/// How a connection lives.
#[derive(Clone, Debug, Args)]
pub struct ConnectionConfig {
    /// Most connections at once, over all workers, and at most 256 fewer than the process's limit
    /// of open files. At the limit, a new connection takes the place of one without a call. If all
    /// have calls, the new one is closed.
    #[arg(long = "max-connections", value_name = "COUNT", default_value = "10000", value_parser = count::<usize>)]
    pub max_open: usize,
    /// Age (±10%) at which a connection is closed, so that callers spread over the instances again.
    #[arg(long = "max-connection-age", value_name = "DURATION", default_value = "30m", value_parser = timeout)]
    pub max_age: Duration,
    /// Longest wait for the calls on a connection that is closed for its age.
    #[arg(long = "max-connection-age-grace", value_name = "DURATION", default_value = "30s", value_parser = timeout)]
    pub max_age_grace: Duration,
    /// Time without a call after which a connection is closed.
    #[arg(long = "max-connection-idle", value_name = "DURATION", default_value = "15m", value_parser = timeout)]
    pub max_idle: Duration,
    /// Longest time to the end of the HTTP/2 preface, TLS handshake included.
    #[arg(skip = Duration::from_secs(10))]
    pub handshake_timeout: Duration,
    /// Longest time for a write that the peer doesn't take.
    #[arg(skip = Duration::from_secs(20))]
    pub stall_timeout: Duration,
    /// Time for a peer to take a call's answer, counted from the longest deadline on. A connection
    /// with one that takes longer is closed, at the latest after twice both.
    #[arg(skip = Duration::from_secs(30))]
    pub answer_timeout: Duration,
    /// Time between pings.
    #[arg(skip = Duration::from_secs(30))]
    pub keepalive_interval: Duration,
    /// Longest wait for the answer to a ping.
    #[arg(skip = Duration::from_secs(20))]
    pub keepalive_timeout: Duration,
}

/// TLS.
#[derive(Debug, Args)]
pub(super) struct TlsArgs {
    /// PEM file with the certificate of the gRPC port and its intermediate certificates. This file
    /// and the next three are read again within seconds of a change.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's key.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// PEM file with the CAs of callers. Every caller must show a client certificate.
    #[arg(long, value_name = "FILE")]
    pub(super) client_ca: Option<PathBuf>,
}

/// The CPUs that the container is granted: its cgroup's quota (v1 and v2) and CPU affinity.
pub fn granted_cpus() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

impl TlsArgs {
    /// The files, where TLS is asked for and nothing is wrong with them.
    pub(super) fn check(&self, problems: &mut Problems) -> Option<TlsFiles> {
        let (cert, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            (None, None) => {
                if self.client_ca.is_some() {
                    problems.add("client-ca", "needs --tls-cert and --tls-key");
                }
                return None;
            }
            (Some(_), None) => {
                problems.add("tls-key", "is required with --tls-cert");
                return None;
            }
            (None, Some(_)) => {
                problems.add("tls-cert", "is required with --tls-key");
                return None;
            }
        };
        let files = TlsFiles {
            cert,
            key,
            client_ca: self.client_ca.clone(),
        };
        for unusable in pem::check(&files).err().into_iter().flatten() {
            problems.add(unusable.flag(), unusable);
        }
        Some(files)
    }
}
