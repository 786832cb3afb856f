//! TLS towards callers: 1.2 and 1.3, ALPN h2, files that may change at any time. Names no caller.

use std::time::Duration;

use rustls::ServerConfig;

use crate::{
    pem::{Read, TlsFiles, read},
    reload::{Files, Reloaded},
    telemetry::{Secret, Secrets},
};

/// What connections are accepted with, as it is now. Those that stand keep what they were accepted
/// with.
pub(super) type Tls = Reloaded<ServerConfig>;

/// Reads the files, and again when they change.
pub(super) fn follow(
    files: &TlsFiles,
    interval: Duration,
    metrics: &Secrets,
) -> Result<Tls, String> {
    let paths = [&files.cert, &files.key].into_iter();
    let followed = Files {
        secret: Secret::Certificate,
        paths: paths.chain(&files.client_ca).cloned().collect(),
        interval,
        metrics: metrics.clone(),
    };
    let (files, metrics) = (files.clone(), metrics.clone());
    Reloaded::follow(followed, move || {
        let read = read(&files).map_err(|error| format!("--{}: {error}", error.flag()));
        let Read { config, expires } = read?;
        if let Some(at) = expires {
            metrics.expires(Secret::Certificate, at);
        }
        Ok(config)
    })
}
