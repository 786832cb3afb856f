//! How OnboardFlow is called: flags, and what they come to.

#![expect(
    clippy::doc_markdown,
    reason = "the flags' comments are what --help prints"
)]

use std::{ffi::OsString, io, net::SocketAddr, path::PathBuf, time::Duration, vec};

use clap::{Args, ValueEnum};
use http::{HeaderValue, Uri};
use hyper_util::client::{legacy::connect::dns::Name, proxy::matcher::Matcher};
use rustls_pki_types::CertificateDer;
use secrecy::{ExposeSecret as _, SecretString};
use tower::util::BoxCloneSyncService;
use url::Url;

use super::{
    args::ServeArgs,
    checked::{
        Checked, Noted, Problems, attempts, base_url, check, checked, choice, proven, quota,
        timeout, variable, warm_connections,
    },
    keys::{KeyFiles, check_token},
    misread::variable_of,
};
use crate::pem;

/// How OnboardFlow is called.
#[derive(Debug, Args)]
pub(super) struct UpstreamArgs {
    /// Base URL of OnboardFlow.
    #[arg(long, value_name = "URL", default_value = "https://gateway.onboardflow.com", value_parser = checked(base_url))]
    pub(super) upstream_url: Checked<Url>,
    /// PEM file with CAs to trust for the upstream, besides the system's.
    #[arg(long, value_name = "FILE")]
    pub(super) upstream_ca: Option<PathBuf>,
    /// File with the API key; the variable ONBOARDFLOW_TOKEN can hold the key itself.
    #[arg(long, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// TOML file with the API keys of sites that have their own: `site_key = "API key"`. Other sites
    /// use the key above; without one, their calls are refused.
    #[arg(long, value_name = "FILE")]
    pub(super) site_tokens_file: Option<PathBuf>,
    /// How the API key is presented: `Authorization: Token …` or `Authorization: Bearer …`.
    #[arg(long, value_name = "SCHEME", default_value = "token", value_parser = checked(choice::<AuthScheme>))]
    pub(super) auth_scheme: Checked<AuthScheme>,
    /// Whose API key a call carries: the gateway's own, or the one in the caller's `authorization`
    /// metadata, which is required then.
    #[arg(long, value_name = "WHOSE", default_value = "gateway", value_parser = checked(choice::<CredentialsMode>))]
    pub(super) credentials: Checked<CredentialsMode>,
    /// Longest wait for a connection to OnboardFlow.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = checked(timeout))]
    pub(super) connect_timeout: Checked<Duration>,
    /// Connections to OnboardFlow that each worker keeps ready, so that no call pays for a handshake; 0
    /// switches it off.
    #[arg(long, value_name = "N", default_value = "1", value_parser = checked(warm_connections))]
    pub(super) warm_connections: Checked<usize>,
    /// Tries in all at one call, where a retry is safe.
    #[arg(long, value_name = "N", default_value = "3", value_parser = checked(attempts))]
    pub(super) max_attempts: Checked<u32>,
    /// Calls that are made at most with one API key a day (UTC), to stay within OnboardFlow's plan.
    /// With several instances each counts its own, unless they share a --ledger. Unlimited unless
    /// given.
    #[arg(long, value_name = "N", value_parser = checked(quota))]
    pub(super) daily_quota: Option<Checked<u64>>,
}

/// How an API key is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AuthScheme {
    /// `Authorization: Token <key>`.
    Token,
    /// `Authorization: Bearer <key>`.
    Bearer,
}

/// Whose API key a call carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CredentialsMode {
    /// The gateway's own.
    Gateway,
    /// The caller's.
    Caller,
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
    /// Connections that each worker keeps ready.
    pub warm_connections: usize,
    /// Cap on the body of a reply, in bytes.
    pub max_response_bytes: usize,
    /// The proxy on the way, if there is one.
    pub proxy: Option<Proxy>,
    /// Finds the host's addresses; the system does, unless there is another.
    pub resolver: Option<Resolver>,
    /// Tries in all, where a retry is safe.
    pub max_attempts: u32,
    /// Calls a key and day (UTC) that this instance makes at most.
    pub daily_quota: Option<u64>,
    /// When to stop calling for a while; without it, never.
    pub breaker: Option<BreakerConfig>,
    /// Whether a 429 holds calls back for as long as it says.
    pub heed_retry_after: bool,
}

impl UpstreamConfig {
    /// An upstream at this address; all else is as the flags say when nobody gives them.
    #[must_use]
    pub fn new(base_url: Url, credentials: Credentials) -> Self {
        let ServeArgs {
            upstream, shared, ..
        } = ServeArgs::default();
        Self {
            base_url,
            extra_roots: Vec::new(),
            credentials,
            connect_timeout: proven(upstream.connect_timeout),
            warm_connections: proven(upstream.warm_connections),
            max_response_bytes: proven(shared.max_response_bytes),
            proxy: None,
            resolver: None,
            max_attempts: proven(upstream.max_attempts),
            daily_quota: None,
            breaker: Some(BreakerConfig::default()),
            heed_retry_after: true,
        }
    }
}

/// Finds the addresses of a host's name.
pub type Resolver = BoxCloneSyncService<Name, vec::IntoIter<SocketAddr>, io::Error>;

/// When the breaker opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open at first. It doubles with each probe that fails.
    pub open_for: Duration,
    /// The longest that it stays open at a time.
    pub open_at_most: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 10,
            open_for: Duration::from_secs(1),
            open_at_most: Duration::from_secs(30),
        }
    }
}

/// A proxy on the way to OnboardFlow. HTTPS goes through it with CONNECT.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Its address, an `http` URL.
    pub address: Uri,
    /// What it wants to be shown, as `Proxy-Authorization`.
    pub authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name for this URL. A variable that
    /// can't be read must not mean that a call takes the direct way.
    fn of_environment(url: &Url, problems: &mut Problems) -> Result<Option<Self>, Noted> {
        let names: &[&str] = match url.scheme() {
            "https" => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
            _ => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
        };
        let text = |name: &str| Some(variable(name)?.to_string_lossy().into_owned());
        let Some((name, value)) = names.iter().find_map(|name| Some((*name, text(name)?))) else {
            return Ok(None);
        };
        let excepted = text("no_proxy")
            .or_else(|| text("NO_PROXY"))
            .unwrap_or_default();
        let Ok(target) = Uri::try_from(url.as_str()) else {
            problems.add("upstream-url", "must be an absolute URL");
            return Err(Noted);
        };
        let through = |proxy: &str| {
            let matcher = Matcher::builder().all(proxy).no(excepted.as_str()).build();
            matcher.intercept(&target)
        };
        if through("http://any.invalid").is_none() {
            return Ok(None);
        }
        let proxy = through(&value).filter(|proxy| proxy.uri().scheme_str() == Some("http"));
        let Some(proxy) = proxy else {
            problems.add_named(
                name,
                "must be the URL of an http proxy, such as http://proxy:3128",
            );
            return Err(Noted);
        };
        let mut authorization = proxy.basic_auth().cloned();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Some(Self {
            address: proxy.uri().clone(),
            authorization,
        }))
    }
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
    /// The gateway's own, from files that may change.
    Files {
        /// Where they are.
        files: KeyFiles,
        /// How they are presented.
        scheme: AuthScheme,
    },
    /// The caller's `authorization` metadata is passed on.
    Caller,
}

impl UpstreamArgs {
    pub(super) fn check(
        self,
        max_response_bytes: Option<usize>,
        problems: &mut Problems,
    ) -> Option<UpstreamConfig> {
        let credentials = self.credentials(problems);
        let base_url = check!(problems, self.upstream_url);
        let connect_timeout = check!(problems, self.connect_timeout);
        let warm_connections = check!(problems, self.warm_connections);
        let max_attempts = check!(problems, self.max_attempts);
        let daily_quota = problems.check("daily-quota", self.daily_quota.transpose());
        let extra_roots = match self.upstream_ca {
            None => Some(Vec::new()),
            Some(file) => problems.check("upstream-ca", pem::certificates(&file)),
        };
        let proxy = base_url
            .as_ref()
            .and_then(|url| Proxy::of_environment(url, problems).ok());
        Some(UpstreamConfig {
            extra_roots: extra_roots?,
            connect_timeout: connect_timeout?,
            warm_connections: warm_connections?,
            max_response_bytes: max_response_bytes?,
            proxy: proxy?,
            max_attempts: max_attempts?,
            daily_quota: daily_quota?,
            ..UpstreamConfig::new(base_url?, credentials?)
        })
    }

    fn credentials(&self, problems: &mut Problems) -> Option<Credentials> {
        let variable = variable("ONBOARDFLOW_TOKEN");
        let scheme = check!(problems, self.auth_scheme);
        let mode = check!(problems, self.credentials)?;
        let holds_none =
            variable.is_none() && self.token_file.is_none() && self.site_tokens_file.is_none();
        let problem = match mode {
            CredentialsMode::Caller if holds_none => return Some(Credentials::Caller),
            CredentialsMode::Caller => (
                "credentials",
                "with `caller` the gateway must not hold a key too",
            ),
            CredentialsMode::Gateway if variable.is_some() && self.token_file.is_some() => (
                "token-file",
                "can't be given together with ONBOARDFLOW_TOKEN",
            ),
            CredentialsMode::Gateway if holds_none => (
                "token-file",
                "is required, or ONBOARDFLOW_TOKEN with the API key, or --site-tokens-file",
            ),
            CredentialsMode::Gateway => return self.gateway_keys(variable, scheme?, problems),
        };
        problems.add(problem.0, problem.1);
        None
    }

    fn gateway_keys(
        &self,
        variable: Option<OsString>,
        scheme: AuthScheme,
        problems: &mut Problems,
    ) -> Option<Credentials> {
        let fixed = match variable {
            None => None,
            Some(token) => {
                let token = check_token(&token.to_string_lossy());
                let noted = |problem| problems.add_named(&variable_of("token"), problem);
                Some(token.map_err(noted).ok()?)
            }
        };
        let files = KeyFiles {
            fixed,
            default: self.token_file.clone(),
            sites: self.site_tokens_file.clone(),
        };
        if let (Some(token), None) = (&files.fixed, &files.sites) {
            let token = token.clone();
            return Some(Credentials::Gateway { token, scheme });
        }
        let default = problems.note("token-file", files.read_default());
        let sites = problems.note("site-tokens-file", files.read_sites());
        (default.is_some() && sites.is_some()).then_some(Credentials::Files { files, scheme })
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
