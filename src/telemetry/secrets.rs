//! Metrics of what the gateway reads from files: API keys, certificates, the keys of callers' tokens.
//! Knows when, and never what.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{add, add_seconds};

/// Something that is read from a file, and read again when the file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secret {
    /// `--token-file`, `--site-tokens-file` or `ONBOARDFLOW_TOKEN`.
    Token,
    /// `--tls-cert`, `--tls-key` and `--client-ca`.
    Certificate,
    /// `--jwks-file`, `--jwks-url` or `--oidc-issuer`.
    TokenKeys,
    /// `--callers-file`, which is no secret, but followed as they are.
    Callers,
}

impl Secret {
    /// The value of a label, and what the log calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::TokenKeys => "token_keys",
            Self::Callers => "callers",
        }
    }
}

type BySecret<M> = Family<[(&'static str, &'static str); 1], M>;

/// The API key and certificates.
#[derive(Clone, Debug)]
pub struct Secrets {
    loaded: BySecret<Gauge>,
    expires: BySecret<Gauge>,
    stale: BySecret<Gauge>,
    failures: BySecret<Counter>,
}

impl Secrets {
    pub(super) fn new(registry: &mut Registry) -> Self {
        Self {
            loaded: add_seconds(
                registry,
                "secret_loaded_timestamp",
                "When the content in use was read, in Unix time",
            ),
            expires: add_seconds(
                registry,
                "secret_expires_timestamp",
                "When the certificate in use expires, in Unix time",
            ),
            stale: add(
                registry,
                "secret_stale",
                "1 while the files hold something that cannot be used, so that what was read before stays in use",
            ),
            failures: add(
                registry,
                "secret_reload_failures",
                "Changed files that could not be used, so that the old content stays in use",
            ),
        }
    }

    /// Notes that a secret was read, and is in use from now on.
    pub fn loaded(&self, secret: Secret) {
        #[expect(clippy::disallowed_methods, reason = "a metric in Unix time")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = i64::try_from(since.unwrap_or_default().as_secs()).unwrap_or(i64::MAX);
        let labels = [("secret", secret.name())];
        self.loaded.get_or_create(&labels).set(now);
        self.stale.get_or_create(&labels).set(0);
        // At zero from the start, so that the first failure is an increase.
        drop(self.failures.get_or_create(&labels));
    }

    /// Notes when what was read expires, in Unix seconds.
    pub fn expires(&self, secret: Secret, at: i64) {
        self.expires
            .get_or_create(&[("secret", secret.name())])
            .set(at);
    }

    /// Counts a changed file that could not be used.
    pub fn reload_failed(&self, secret: Secret) {
        let labels = [("secret", secret.name())];
        self.stale.get_or_create(&labels).set(1);
        self.failures.get_or_create(&labels).inc();
    }
}
