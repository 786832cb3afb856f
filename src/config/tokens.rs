//! How callers' tokens are checked, and where their keys are. Fetches none.

use std::{path::PathBuf, time::Duration};

use url::{Host, Url};

use super::checked::Checked;

/// How a caller's token is checked.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// Where the keys are.
    pub keys: KeySource,
    /// Issuer that a token must name.
    pub issuer: String,
    /// Audience that a token must name.
    pub audience: String,
}

/// Where the keys of callers' tokens are.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// `--jwks-file`.
    File(PathBuf),
    /// `--jwks-url` or `--oidc-issuer`.
    Http(HttpKeys),
}

/// Keys that are fetched.
#[derive(Clone, Debug)]
pub struct HttpKeys {
    /// What is asked for them.
    pub endpoint: Endpoint,
    /// `--jwks-ca`.
    pub ca: Option<PathBuf>,
    /// `--jwks-token-file`.
    pub token: Option<PathBuf>,
    /// When they are fetched.
    pub times: FetchTimes,
}

/// What is asked for keys.
#[derive(Clone, Debug)]
pub enum Endpoint {
    /// `--jwks-url`.
    Jwks(Url),
    /// `--oidc-issuer`, which says where they are.
    Issuer(String),
}

/// When keys are fetched.
#[derive(Clone, Copy, Debug)]
pub struct FetchTimes {
    /// Longest time that one fetch may take.
    pub timeout: Duration,
    /// Least time that keys are kept, whatever Cache-Control says.
    pub least: Duration,
    /// Longest time that they are kept.
    pub longest: Duration,
    /// Least time between fetches for keys that nobody knows.
    pub cooldown: Duration,
    /// Wait after a first fetch that failed, doubled from one to the next.
    pub retry: Duration,
}

impl Default for FetchTimes {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            least: Duration::from_secs(60),
            longest: Duration::from_secs(24 * 3600),
            cooldown: Duration::from_secs(10),
            retry: Duration::from_secs(1),
        }
    }
}

/// A URL to fetch keys from: who can change what it answers can call.
pub(super) fn issuer_url(text: &str) -> Checked<Url> {
    const HTTPS: &str = "must be an https URL; http only for this machine";
    let url = Url::parse(text).map_err(|_| HTTPS)?;
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(HTTPS),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold credentials; use --jwks-token-file");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        _ => Err(HTTPS),
    }
}
