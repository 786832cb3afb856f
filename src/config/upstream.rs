//! How OnboardFlow is called: flags, and what they come to. Makes no connection.

use std::{ffi::OsString, io, net::SocketAddr, path::PathBuf, time::Duration, vec};

use clap::{Args, ValueEnum};
use http::{HeaderValue, Uri};
use hyper_util::client::{legacy::connect::dns::Name, proxy::matcher::Matcher};
use rustls_pki_types::CertificateDer;
use secrecy::{ExposeSecret as _, SecretString};
use tower::util::BoxCloneSyncService;
use url::Url;

use super::{
    ProcessConfig,
    checked::{
        Problems, attempts, base_url, choice, defaults, quota, timeout, variable, variable_of,
        warm_connections,
    },
    keys::{KeyFiles, check_token},
};
use crate::pem;

/// How OnboardFlow is called.
#[derive(Debug, Args)]
pub(super) struct UpstreamArgs {
    #[command(flatten)]
    pub(super) config: UpstreamConfig,
    /// PEM file with CAs to trust for the upstream, besides the system's.
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<PathBuf>,
    /// File with the API key; the variable ONBOARDFLOW_TOKEN can hold the key itself.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// TOML file with the API keys of sites that have their own: `site_key = "API key"`. Other sites
    /// use the key above; without one, their calls are refused.
    #[arg(long, value_name = "FILE")]
    site_tokens_file: Option<PathBuf>,
    /// How the API key is presented: `Authorization: Token …` or `Authorization: Bearer …`.
    #[arg(long, value_name = "SCHEME", default_value = "token", value_parser = choice::<AuthScheme>)]
    auth_scheme: AuthScheme,
    /// Whose API key a call carries: the gateway's own, or the one in the caller's `authorization`
    /// metadata, which is required then.
    #[arg(long, value_name = "WHOSE", default_value = "gateway")]
    credentials: String,
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
#[derive(Clone, Debug, Args)]
pub struct UpstreamConfig {
    /// Base URL of OnboardFlow.
    #[arg(long = "upstream-url", value_name = "URL", default_value = "https://gateway.onboardflow.com", value_parser = base_url)]
    pub base_url: Url,
    /// Certificates that are trusted besides the system's.
    #[arg(skip)]
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Whose key a call carries.
    #[arg(skip = Credentials::Caller)]
    pub credentials: Credentials,
    /// Longest wait for a connection to OnboardFlow.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = timeout)]
    pub connect_timeout: Duration,
    /// Connections to OnboardFlow that each worker keeps ready, so that no call pays for a handshake; 0
    /// switches it off.
    #[arg(long, value_name = "N", default_value = "1", value_parser = warm_connections)]
    pub warm_connections: usize,
    /// Cap on the body of a reply, in bytes.
    #[arg(skip = defaults::<ProcessConfig>().max_response_bytes)]
    pub max_response_bytes: usize,
    /// The proxy on the way, if there is one.
    #[arg(skip)]
    pub proxy: Option<Proxy>,
    /// Finds the host's addresses; the system does, unless there is another.
    #[arg(skip)]
    pub resolver: Option<Resolver>,
    /// Most attempts at OnboardFlow for one call, where a retry is safe.
    #[arg(long, value_name = "N", default_value = "3", value_parser = attempts)]
    pub max_attempts: u32,
    /// Most calls with one API key in a day (UTC), to stay within OnboardFlow's plan. Each instance
    /// counts its own calls, unless instances share a --ledger. No limit by default.
    #[arg(long, value_name = "N", value_parser = quota)]
    pub daily_quota: Option<u64>,
    /// When to stop calling for a while; without it, never.
    #[arg(skip = Some(BreakerConfig::default()))]
    pub breaker: Option<BreakerConfig>,
    /// Whether a 429 holds calls back for as long as it says.
    #[arg(skip = true)]
    pub heed_retry_after: bool,
}

impl UpstreamConfig {
    /// An upstream at this address; all else is as the flags say when nobody gives them.
    pub fn new(base_url: Url, credentials: Credentials) -> Self {
        Self {
            base_url,
            credentials,
            ..defaults()
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
    fn of_environment(url: &Url, problems: &mut Problems) -> Option<Self> {
        let names: &[&str] = match url.scheme() {
            "https" => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
            _ => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
        };
        let text = |name: &str| Some(variable(name)?.to_string_lossy().into_owned());
        let (name, value) = names.iter().find_map(|name| Some((*name, text(name)?)))?;
        let excepted = text("no_proxy")
            .or_else(|| text("NO_PROXY"))
            .unwrap_or_default();
        let Ok(target) = Uri::try_from(url.as_str()) else {
            problems.add("upstream-url", "must be an absolute URL");
            return None;
        };
        let through = |proxy: &str| {
            let matcher = Matcher::builder().all(proxy).no(excepted.as_str()).build();
            matcher.intercept(&target)
        };
        through("http://any.invalid")?;
        let proxy = through(&value).filter(|proxy| proxy.uri().scheme_str() == Some("http"));
        let Some(proxy) = proxy else {
            problems.add_named(
                name,
                "must be the URL of an http proxy, such as http://proxy:3128",
            );
            return None;
        };
        let mut authorization = proxy.basic_auth().cloned();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Some(Self {
            address: proxy.uri().clone(),
            authorization,
        })
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
    /// Whether callers' `authorization` is passed on to OnboardFlow.
    pub(super) fn passes_authorization_on(&self) -> bool {
        choice(&self.credentials) == Ok(CredentialsMode::Caller)
    }

    pub(super) fn check(self, problems: &mut Problems) -> Option<UpstreamConfig> {
        let credentials = self.credentials(problems);
        let roots = self.upstream_ca.as_deref().map(pem::certificates);
        let roots = problems.check("upstream-ca", roots.transpose());
        let proxy = Proxy::of_environment(&self.config.base_url, problems);
        Some(UpstreamConfig {
            extra_roots: roots?.unwrap_or_default(),
            credentials: credentials?,
            proxy,
            ..self.config
        })
    }

    fn credentials(&self, problems: &mut Problems) -> Option<Credentials> {
        let variable = variable("ONBOARDFLOW_TOKEN");
        let mode = problems.check("credentials", choice(&self.credentials))?;
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
                "is required, unless ONBOARDFLOW_TOKEN holds the API key or --site-tokens-file is given",
            ),
            CredentialsMode::Gateway => return self.gateway_keys(variable, problems),
        };
        problems.add(problem.0, problem.1);
        None
    }

    fn gateway_keys(
        &self,
        variable: Option<OsString>,
        problems: &mut Problems,
    ) -> Option<Credentials> {
        let scheme = self.auth_scheme;
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
        let default = problems.check("token-file", files.read_default());
        let sites = problems.check("site-tokens-file", files.read_sites());
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
