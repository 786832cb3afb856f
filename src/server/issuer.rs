//! The keys of callers' tokens by HTTP: from a URL, or from where an `OpenID` Connect issuer says that they are.
//!
//! One task fetches, whoever asks. It fetches before the keys in use are out of date, and when a token names a
//! key that nobody knows, which anybody can do: so not twice in ten seconds. While the issuer can't be
//! reached, the last good keys stay in use.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{
    HeaderMap,
    header::{ACCEPT, AGE, CACHE_CONTROL},
};
use reqwest::{Certificate, Client, redirect};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{error, info, warn};
use url::Url;

use crate::{
    config::{Endpoint, FetchTimes, HttpKeys, JwtConfig},
    files,
    jwks::Keys,
    reload::Reloaded,
    telemetry::{Secret, Secrets},
};

/// Time that keys are kept where the issuer doesn't say.
const UNSAID: Duration = Duration::from_secs(300);
/// Longest wait after a fetch that failed.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Calls that wait behind the one that a fetch was begun for. More are refused without it.
const MAX_WAITING: usize = 256;

/// Asks for a fetch.
#[derive(Debug)]
pub(super) struct Refetch(mpsc::Sender<oneshot::Sender<()>>);

impl Refetch {
    /// Ready when newer keys have come, or will not come now.
    pub(super) async fn ask(&self) {
        let (fetched, over) = oneshot::channel();
        if self.0.try_send(fetched).is_ok() {
            // An answer or the end of the one who would give it: either way it is over.
            let _ = over.await;
        }
    }
}

/// Keys, and how long they are good.
type Fetched = (Keys, Duration);

struct Issuer {
    http: HttpKeys,
    /// The issuer and the audience that tokens have to name.
    named: (String, String),
    metrics: Secrets,
}

/// Fetches the keys, again and again until there are some, and follows them from then on.
pub(super) async fn follow(
    http: HttpKeys,
    config: &JwtConfig,
    metrics: &Secrets,
) -> (Reloaded<Keys>, Refetch) {
    let issuer = Issuer {
        http,
        named: (config.issuer.clone(), config.audience.clone()),
        metrics: metrics.clone(),
    };
    let mut failed = 0;
    let (keys, lifetime) = loop {
        match issuer.fetch().await {
            Ok(fetched) => break fetched,
            Err(why) => {
                error!(%why, "the keys of callers' tokens can't be fetched; not serving until they are");
                sleep(issuer.wait(failed)).await;
                failed += 1;
            }
        }
    };
    issuer.metrics.loaded(Secret::TokenKeys);
    let current = Arc::new(ArcSwap::from_pointee(keys));
    let (ask, asked) = mpsc::channel(MAX_WAITING);
    let task = tokio::spawn(issuer.renew(Arc::clone(&current), lifetime, asked));
    (Reloaded::fed(current, task), Refetch(ask))
}

impl Issuer {
    async fn renew(
        self,
        current: Arc<ArcSwap<Keys>>,
        lifetime: Duration,
        mut asked: mpsc::Receiver<oneshot::Sender<()>>,
    ) {
        let times = self.http.times;
        let mut begun = Instant::now();
        let mut next = begun + lifetime;
        let mut failed = 0;
        loop {
            let waiting = tokio::select! {
                () = sleep_until(next) => None,
                Some(waiting) = asked.recv() => Some(waiting),
            };
            if waiting.is_some() && begun.elapsed() < times.cooldown {
                continue;
            }
            begun = Instant::now();
            next = match self.fetch().await {
                Ok((keys, lifetime)) => {
                    current.store(Arc::new(keys));
                    self.metrics.loaded(Secret::TokenKeys);
                    if failed > 0 {
                        info!("the keys of callers' tokens can be fetched again");
                    }
                    failed = 0;
                    begun + lifetime
                }
                Err(why) => {
                    self.metrics.reload_failed(Secret::TokenKeys);
                    warn!(%why, "the keys of callers' tokens can't be fetched; the old ones stay in use");
                    failed += 1;
                    begun + self.wait(failed)
                }
            };
        }
    }

    /// The wait after this many fetches that failed.
    fn wait(&self, failed: u32) -> Duration {
        (self.http.times.retry * 2_u32.pow(failed.min(10))).min(LONGEST_WAIT)
    }

    async fn fetch(&self) -> Result<Fetched, String> {
        let fetch = timeout(self.http.times.timeout, self.fetch_at_leisure());
        fetch
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()))
    }

    async fn fetch_at_leisure(&self) -> Result<Fetched, String> {
        let http = self.http.clone();
        // Reads files; no worker waits for a file system.
        let client = spawn_blocking(move || client(&http)).await;
        let (client, token) = client.map_err(|error| error.to_string())??;
        let ask = async |url: Url| get(&client, url, token.as_deref()).await;
        let url = match &self.http.endpoint {
            Endpoint::Jwks(url) => url.clone(),
            Endpoint::Issuer(issuer) => jwks_uri(issuer, &ask(discovery(issuer)?).await?.0)?,
        };
        let (json, headers) = ask(url).await?;
        let (issuer, audience) = &self.named;
        let keys = Keys::parse(&json, issuer, audience);
        let keys = keys.map_err(|problem| format!("the answer {problem}"))?;
        Ok((keys, lifetime(&headers, &self.http.times)))
    }
}

/// A client, as the files are now, and the token that it presents.
fn client(http: &HttpKeys) -> Result<(Client, Option<String>), String> {
    let mut builder = Client::builder()
        // A redirect would send the token, and the question who may call, elsewhere.
        .redirect(redirect::Policy::none())
        .user_agent(concat!("onboardflow-gateway/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = &http.ca {
        let pem = files::read(file).map_err(|problem| format!("--jwks-ca {problem}"))?;
        let certificates = Certificate::from_pem_bundle(&pem);
        let certificates = certificates.map_err(|_| "--jwks-ca holds no certificates")?;
        builder = builder.tls_certs_merge(certificates);
    }
    let token = http.token.as_ref().map(|file| {
        let token = files::read_text(file);
        token.map_err(|problem| format!("--jwks-token-file {problem}"))
    });
    let token = token.transpose()?.map(|token| token.trim().to_owned());
    Ok((builder.build().map_err(told)?, token))
}

/// What a URL answers, up to what a file may have.
async fn get(
    client: &Client,
    url: Url,
    token: Option<&str>,
) -> Result<(Vec<u8>, HeaderMap), String> {
    let mut request = client
        .get(url)
        .header(ACCEPT, "application/jwk-set+json, application/json");
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let mut response = request.send().await.map_err(told)?;
    if response.status() != 200 {
        return Err(format!(
            "answered with status {}",
            response.status().as_u16()
        ));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > files::MAX_SIZE {
            return Err("the answer is larger than 1 MiB".to_owned());
        }
        body.extend_from_slice(&chunk);
    }
    Ok((body, response.headers().clone()))
}

/// An error with its causes, and without its URL, whose query may be a secret.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Where an issuer says what it is.
fn discovery(issuer: &str) -> Result<Url, String> {
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    Url::parse(&url).map_err(|error| error.to_string())
}

/// Where an issuer's keys are.
fn jwks_uri(issuer: &str, json: &[u8]) -> Result<Url, String> {
    #[derive(Deserialize)]
    struct Discovered {
        issuer: String,
        jwks_uri: String,
    }
    let discovered: Discovered = serde_json::from_slice(json)
        .map_err(|_| "the answer is not an OpenID Connect discovery document")?;
    // OpenID Connect Discovery, 4.3: else one issuer could speak for another.
    if discovered.issuer != issuer {
        return Err("the discovery document is another issuer's".to_owned());
    }
    let url = Url::parse(&discovered.jwks_uri)
        .map_err(|_| "the discovery document names no URL of keys")?;
    if url.scheme() != "https" && issuer.starts_with("https:") {
        return Err("the discovery document names keys that are not behind https".to_owned());
    }
    Ok(url)
}

/// How long an answer may be used, a little less than its Cache-Control says, so that the next one is there
/// before this one is out of date.
fn lifetime(headers: &HeaderMap, times: &FetchTimes) -> Duration {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let directives = text(CACHE_CONTROL).unwrap_or_default();
    let mut directives = directives.split(',').map(str::trim);
    let is_never = |directive: &str| matches!(directive, "no-store" | "no-cache");
    let max_age = |directive: &str| directive.strip_prefix("max-age=")?.parse().ok();
    let lifetime = if directives.clone().any(is_never) {
        Duration::ZERO
    } else {
        directives
            .find_map(max_age)
            .map_or(UNSAID, Duration::from_secs)
    };
    let age = text(AGE)
        .and_then(|age| age.trim().parse().ok())
        .unwrap_or_default();
    let left = lifetime.saturating_sub(Duration::from_secs(age));
    left.min(times.longest).mul_f64(0.8).max(times.least)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokio::net::TcpListener;

    use super::*;
    use crate::telemetry::Metrics;

    /// The clock is paused, and leaps to the end of the time-out.
    #[tokio::test(start_paused = true)]
    async fn a_fetch_is_given_up_after_five_seconds() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", silent.local_addr().unwrap());
        let issuer = Issuer {
            http: HttpKeys {
                endpoint: Endpoint::Jwks(url.parse().unwrap()),
                ca: None,
                token: None,
                times: FetchTimes::default(),
            },
            named: Default::default(),
            metrics: Metrics::new().secrets,
        };
        let begun = Instant::now();
        let why = issuer.fetch().await.unwrap_err();
        assert_eq!(
            (why.as_str(), begun.elapsed().as_secs()),
            ("no answer in time", 5)
        );
    }

    #[test]
    fn cache_control_holds_within_bounds() {
        let kept = |cache_control: Option<&'static str>, age: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = cache_control {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            if let Some(value) = age {
                headers.insert(AGE, HeaderValue::from_static(value));
            }
            lifetime(&headers, &FetchTimes::default()).as_secs()
        };
        assert_eq!(kept(Some("public, max-age=3600"), None), 2880);
        assert_eq!(kept(Some("max-age=3600"), Some("600")), 2400);
        assert_eq!(kept(None, None), 240);
        for soon in ["max-age=0", "no-store", "max-age=3600, no-cache"] {
            assert_eq!(kept(Some(soon), None), 60, "{soon}");
        }
        assert_eq!(kept(Some("max-age=99999999999"), None), 69_120);
        assert_eq!(kept(Some("max-age=nonsense"), None), 240);
    }

    #[test]
    fn an_issuer_speaks_for_itself_alone() {
        let document =
            |issuer, keys| format!("{{\"issuer\": \"{issuer}\", \"jwks_uri\": \"{keys}\"}}");
        let found = |text: String| jwks_uri("https://a.test", text.as_bytes()).map(String::from);
        assert_eq!(
            found(document("https://a.test", "https://k.test/x")).unwrap(),
            "https://k.test/x"
        );
        for (issuer, keys) in [
            ("https://b.test", "https://k.test"),
            ("https://a.test/", "https://k.test"),
            ("https://a.test", "http://k.test"),
            ("https://a.test", "x"),
        ] {
            assert!(found(document(issuer, keys)).is_err(), "{issuer} {keys}");
        }
        assert_eq!(
            discovery("https://a.test/realms/x/").unwrap().as_str(),
            "https://a.test/realms/x/.well-known/openid-configuration"
        );
    }
}
