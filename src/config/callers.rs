//! The flags on who may call: the keys of callers' tokens, and the rules. Checks that they can be read, and
//! identifies nobody.

use std::{path::PathBuf, sync::Arc};

use clap::Args;

use super::{
    CallersArgs,
    checked::{Checked, Problems},
    tokens::{Endpoint, FetchTimes, HttpKeys, JwtConfig, KeySource, issuer_url},
};
use crate::{
    callers::{Name, Pattern, Question, Rules},
    files, jwks, proto,
};

/// Who may call.
#[derive(Debug, Args)]
pub(super) struct CallerArgs {
    /// JWKS file with the keys that sign callers' tokens. Every call must carry a bearer JWT
    /// (RS256, ES256 or EdDSA) in its `authorization` metadata.
    #[arg(long, value_name = "FILE")]
    jwks_file: Option<PathBuf>,
    /// URL of the same keys, by HTTPS. They are fetched at the start, and again before they are out
    /// of date.
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// OpenID Connect issuer. Discovery gives the URL of its keys, and tokens must name it as their
    /// issuer.
    #[arg(long, value_name = "URL")]
    oidc_issuer: Option<String>,
    /// PEM file with CAs to trust for --jwks-url and --oidc-issuer, besides the system's.
    #[arg(long, value_name = "FILE")]
    jwks_ca: Option<PathBuf>,
    /// File with a bearer token to send to --jwks-url and --oidc-issuer, such as a Kubernetes
    /// service account's. It is read for each fetch.
    #[arg(long, value_name = "FILE")]
    jwks_token_file: Option<PathBuf>,
    /// Issuer (`iss`) that a token must name.
    #[arg(long, value_name = "ISSUER")]
    jwt_issuer: Option<String>,
    /// Audience (`aud`) that a token must name.
    #[arg(long, value_name = "AUDIENCE")]
    jwt_audience: Option<String>,
    /// Name of a caller that may call: a SAN of its certificate (DNS name or URI, such as a SPIFFE
    /// id) or the subject of its token. A prefix `dns:`, `uri:` or `sub:` says which. A `*` stands
    /// for the first label of a DNS name, the last path segment of a URI, or the last part of a
    /// subject such as system:serviceaccount:prod:*. If certificate and token are both demanded,
    /// both names must be allowed. Repeatable, or separated by commas. Without this flag, every
    /// identified caller may call.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allow_caller: Vec<String>,
    /// TOML file with the callers that may call, instead of --allow-caller: the sites and methods
    /// that each may use, and its share of --daily-quota. Read again when it changes.
    #[arg(long, value_name = "FILE")]
    callers_file: Option<PathBuf>,
}

/// Who may call.
#[derive(Clone, Debug, Default)]
pub struct CallerConfig {
    /// How tokens are checked, where they are demanded.
    pub jwt: Option<JwtConfig>,
    /// Who may do what.
    pub rules: RulesConfig,
}

/// Where the rules are.
#[derive(Clone, Debug)]
pub enum RulesConfig {
    /// In `--allow-caller`.
    Fixed(Arc<Rules>),
    /// In `--callers-file`.
    File(CallersFile),
}

impl Default for RulesConfig {
    fn default() -> Self {
        Self::Fixed(Arc::default())
    }
}

/// The file of `--callers-file`.
#[derive(Clone, Debug)]
pub struct CallersFile {
    /// Where it is.
    pub path: PathBuf,
    /// `--daily-quota`, which its shares are parts of.
    pub daily_quota: Option<u64>,
}

/// What the rest of the configuration says that matters here.
pub(super) struct Beside {
    /// Whether TLS demands a client certificate.
    pub(super) certificates: bool,
    /// Whether callers' `authorization` is passed on to OnboardFlow.
    pub(super) passes_authorization_on: bool,
    /// `--daily-quota`.
    pub(super) daily_quota: Option<u64>,
}

impl CallersFile {
    /// The rules in the file, or all that is wrong with it.
    pub fn read(&self) -> Result<Rules, String> {
        let text = files::read(&self.path)?;
        Rules::parse(&text, &method_names(), self.daily_quota)
    }
}

impl CallersArgs {
    /// The rules in the file, and what is asked about them, or what is wrong.
    pub fn check(self) -> Result<(Rules, Option<Question>), Problems> {
        let mut problems = Problems::default();
        let file = CallersFile {
            path: self.file,
            // Which shares there are calls for depends on the flag of `serve`.
            daily_quota: Some(u64::MAX),
        };
        let rules = file
            .read()
            .map_err(|problem| problems.add_named("FILE", problem));
        let is_known = |method: &String| method_names().contains(method);
        if self.method.as_ref().is_some_and(|method| !is_known(method)) {
            problems.add(
                "method",
                format_args!("must be one of {}", method_names().join(", ")),
            );
        }
        let question = self.caller.map(|caller| Question {
            caller,
            site: self.site,
            method: self.method,
        });
        problems.finish(rules.ok().map(|rules| (rules, question)))
    }
}

/// The short names of all methods, which a file may name.
fn method_names() -> Vec<String> {
    let methods = proto::services()
        .into_iter()
        .flat_map(|service| service.methods);
    methods.map(|method| method.name().to_owned()).collect()
}

/// The name in a question, with its prefix, or by its form.
pub(super) fn caller_name(text: &str) -> Checked<Name> {
    let pattern = Pattern::of_entry(text)?;
    pattern.exact().ok_or("must be one name, without `*`")
}

impl CallerArgs {
    pub(super) fn check(&self, beside: &Beside, problems: &mut Problems) -> Option<CallerConfig> {
        let jwt = self.jwt(beside, problems);
        let rules = self.rules(beside, problems)?;
        Some(CallerConfig { jwt, rules })
    }

    /// The flag that names the keys, where there is one.
    fn keys_flag(&self, problems: &mut Problems) -> Option<&'static str> {
        let given = [
            ("jwks-file", self.jwks_file.is_some()),
            ("jwks-url", self.jwks_url.is_some()),
            ("oidc-issuer", self.oidc_issuer.is_some()),
        ];
        let mut given = given.into_iter().filter(|(_, is_given)| *is_given);
        let (flag, _) = given.next()?;
        for (another, _) in given {
            problems.add(
                another,
                format_args!("can't be given together with --{flag}"),
            );
        }
        Some(flag)
    }

    /// How tokens are checked, where they are demanded.
    fn jwt(&self, beside: &Beside, problems: &mut Problems) -> Option<JwtConfig> {
        let flag = self.keys_flag(problems);
        self.check_fetching(flag, problems);
        let Some(flag) = flag else {
            if self.jwt_issuer.is_some() || self.jwt_audience.is_some() {
                problems.add(
                    "jwks-file",
                    "is required with --jwt-issuer and --jwt-audience, or --jwks-url or --oidc-issuer in its place",
                );
            }
            return None;
        };
        if beside.passes_authorization_on {
            problems.add(
                flag,
                "can't be given together with --credentials caller: both are about the \
                 `authorization` metadata",
            );
        }
        let issuer = self.issuer(flag, problems);
        let audience = self
            .jwt_audience
            .clone()
            .filter(|audience| !audience.is_empty());
        if audience.is_none() {
            problems.add("jwt-audience", format_args!("is required with --{flag}"));
        }
        let keys = self.keys(problems);
        Some(JwtConfig {
            keys: keys?,
            issuer: issuer?,
            audience: audience?,
        })
    }

    fn check_fetching(&self, flag: Option<&str>, problems: &mut Problems) {
        let is_fetched = matches!(flag, Some("jwks-url" | "oidc-issuer"));
        for (flag, file) in [
            ("jwks-ca", &self.jwks_ca),
            ("jwks-token-file", &self.jwks_token_file),
        ] {
            let Some(file) = file else { continue };
            if !is_fetched {
                problems.add(flag, "needs --jwks-url or --oidc-issuer");
            } else if let Err(problem) = files::read(file) {
                problems.add(flag, problem);
            }
        }
    }

    fn issuer(&self, flag: &str, problems: &mut Problems) -> Option<String> {
        let named = self.jwt_issuer.clone().filter(|issuer| !issuer.is_empty());
        match (&self.oidc_issuer, named) {
            (Some(_), Some(_)) => {
                problems.add(
                    "jwt-issuer",
                    "can't be given together with --oidc-issuer, which is the issuer",
                );
                None
            }
            (Some(issuer), None) => Some(issuer.clone()),
            (None, Some(issuer)) => Some(issuer),
            (None, None) => {
                problems.add("jwt-issuer", format_args!("is required with --{flag}"));
                None
            }
        }
    }

    fn keys(&self, problems: &mut Problems) -> Option<KeySource> {
        if let Some(file) = &self.jwks_file {
            if let Err(error) = jwks::check(file) {
                problems.add("jwks-file", error);
            }
            return Some(KeySource::File(file.clone()));
        }
        let endpoint = match (&self.jwks_url, &self.oidc_issuer) {
            (Some(url), _) => Endpoint::Jwks(problems.check("jwks-url", issuer_url(url))?),
            (None, Some(issuer)) => {
                problems.check("oidc-issuer", issuer_url(issuer))?;
                Endpoint::Issuer(issuer.clone())
            }
            (None, None) => return None,
        };
        Some(KeySource::Http(HttpKeys {
            endpoint,
            ca: self.jwks_ca.clone(),
            token: self.jwks_token_file.clone(),
            times: FetchTimes::default(),
        }))
    }

    fn rules(&self, beside: &Beside, problems: &mut Problems) -> Option<RulesConfig> {
        let identifies = beside.certificates
            || self.jwks_file.is_some()
            || self.jwks_url.is_some()
            || self.oidc_issuer.is_some();
        let mut needs = |flag: &str| {
            if !identifies {
                problems.add(
                    flag,
                    "needs --client-ca or --jwks-file, or --jwks-url or --oidc-issuer",
                );
            }
        };
        let Some(path) = &self.callers_file else {
            if !self.allow_caller.is_empty() {
                needs("allow-caller");
            }
            let rules = Rules::allowing(self.allow_caller.iter().map(String::as_str));
            return Some(RulesConfig::Fixed(
                problems.check("allow-caller", rules)?.into(),
            ));
        };
        needs("callers-file");
        if !self.allow_caller.is_empty() {
            problems.add(
                "allow-caller",
                "can't be given together with --callers-file",
            );
        }
        let file = CallersFile {
            path: path.clone(),
            daily_quota: beside.daily_quota,
        };
        problems.check("callers-file", file.read().map(drop))?;
        Some(RulesConfig::File(file))
    }
}
