//! Who calls, and who may: by client certificate, by token, or by both where both are configured: then both
//! have to be allowed. Doesn't know what is called.

use std::{
    io,
    net::SocketAddr,
    slice,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use webpki::EndEntityCert;

use super::tokens::{self, Tokens, Verified};
use crate::{
    callers::{Caller, Name, NameKind, Rules},
    config::{RulesConfig, ServerConfig},
    error::{Error, Refusal},
    jwks::{Claims, Disbelief, Keys},
    reload::{Files, Reloaded},
    telemetry::{Metrics, Secret},
};

const NAMELESS: &str = "the client certificate has neither a DNS name nor a URI";

/// What is asked of callers.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) rules: Reloaded<Rules>,
    /// Whether TLS demands a client certificate.
    pub(super) certificates: bool,
    pub(super) tokens: Option<Tokens>,
}

/// What is known of the other end of a connection. Each call on it has this.
#[derive(Debug)]
pub(super) struct Peer {
    /// Tells its connection from all others.
    pub(super) number: u64,
    /// Where it is, for the log.
    pub(super) address: Option<SocketAddr>,
    /// The SANs of its certificate.
    names: Vec<Name>,
    /// Who they say that it is.
    found: Mutex<Option<Found>>,
    /// Cancelled when its calls have to end.
    pub(super) over: CancellationToken,
}

/// Who a certificate is, by these rules, if that one may call.
#[derive(Debug)]
struct Found {
    rules: Arc<Rules>,
    caller: Option<Arc<Caller>>,
}

/// Why a call can't be answered for at once.
pub(super) enum Unidentified {
    /// Its caller may not call, or is nobody.
    Refused(TurnedAway),
    /// Its token names a key that nobody knows; the issuer may have it.
    KeyUnknown,
}

/// A caller that was turned away.
pub(super) struct TurnedAway {
    pub(super) error: Error,
    /// Who it is, for the log, where that was proven.
    pub(super) name: Option<Box<str>>,
}

impl TurnedAway {
    /// One that no rule lists.
    fn stranger(name: &Name) -> Self {
        Self {
            error: Error::new(Refusal::CallerNotAllowed),
            name: Some(name.text.as_str().into()),
        }
    }
}

impl From<Error> for TurnedAway {
    fn from(error: Error) -> Self {
        Self { error, name: None }
    }
}

impl Unidentified {
    /// What comes of it in the end.
    pub(super) fn into_turned_away(self) -> TurnedAway {
        match self {
            Self::Refused(turned) => turned,
            Self::KeyUnknown => unauthenticated(Disbelief::UnknownKey.says()).into(),
        }
    }
}

impl<T: Into<TurnedAway>> From<T> for Unidentified {
    fn from(turned: T) -> Self {
        Self::Refused(turned.into())
    }
}

impl Peer {
    pub(super) fn new(
        address: Option<SocketAddr>,
        certificate: Option<&CertificateDer<'_>>,
        over: CancellationToken,
    ) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self {
            number: LAST.fetch_add(1, Relaxed),
            address,
            names: certificate.map(names).unwrap_or_default(),
            found: Mutex::default(),
            over,
        }
    }

    /// The caller that the certificate is for, by these rules.
    fn caller(&self, rules: &Arc<Rules>) -> Option<Arc<Caller>> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match &*found {
            Some(found) if Arc::ptr_eq(&found.rules, rules) => found.caller.clone(),
            Some(_) | None => {
                let caller = rules.admit(&self.names).map(Arc::new);
                *found = Some(Found {
                    rules: Arc::clone(rules),
                    caller: caller.clone(),
                });
                caller
            }
        }
    }
}

impl Callers {
    /// What is asked of callers by this configuration, once there are keys for their tokens; and from then
    /// on as the files and the issuer have it.
    pub(super) async fn follow(config: &ServerConfig, metrics: &Metrics) -> io::Result<Self> {
        let tokens = match &config.callers.jwt {
            Some(jwt) => Some(Tokens::follow(jwt, config.reload_interval, &metrics.secrets).await?),
            None => None,
        };
        Ok(Self {
            rules: follow_rules(config, metrics).map_err(io::Error::other)?,
            certificates: config
                .tls
                .as_ref()
                .is_some_and(|files| files.client_ca.is_some()),
            tokens,
        })
    }

    /// Who makes a call with these headers; nobody in particular where nothing is asked of callers.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Option<Arc<Caller>>, Unidentified> {
        if !self.certificates && self.tokens.is_none() {
            return Ok(None);
        }
        let rules = self.rules.get();
        let certificate = self.by_certificate(&rules, peer)?;
        let Some(tokens) = &self.tokens else {
            return Ok(certificate);
        };
        let subject = by_token(tokens, &rules, headers)?;
        Ok(Some(match certificate {
            Some(certificate) => Arc::new(subject.and(&certificate)),
            None => subject,
        }))
    }

    /// Ready when newer keys have come, or will not come now.
    pub(super) async fn newer_keys(&self) {
        if let Some(tokens) = &self.tokens {
            tokens.refetch().await;
        }
    }

    /// The caller that a certificate is for, if it may call. Where a token says who calls, a certificate needs
    /// a name only for the rules.
    fn by_certificate(
        &self,
        rules: &Arc<Rules>,
        peer: &Peer,
    ) -> Result<Option<Arc<Caller>>, TurnedAway> {
        match peer.names.first() {
            _ if !self.certificates => Ok(None),
            None if self.tokens.is_none() => Err(unauthenticated(NAMELESS).into()),
            None if rules.are_open() => Ok(None),
            None => Err(Error::new(Refusal::CallerNotAllowed)
                .saying(NAMELESS)
                .into()),
            Some(name) => match peer.caller(rules) {
                Some(caller) => Ok(Some(caller)),
                None => Err(TurnedAway::stranger(name)),
            },
        }
    }
}

/// The rules on who may do what, for as long as they live.
fn follow_rules(config: &ServerConfig, metrics: &Metrics) -> Result<Reloaded<Rules>, String> {
    let file = match &config.callers.rules {
        RulesConfig::Fixed(rules) => return Ok(Reloaded::fixed(Arc::clone(rules))),
        RulesConfig::File(file) => file.clone(),
    };
    let followed = Files {
        secret: Secret::Callers,
        paths: vec![file.path.clone()],
        interval: config.reload_interval,
        metrics: metrics.secrets.clone(),
    };
    let metrics = metrics.callers.clone();
    Reloaded::follow(followed, move || {
        let rules = file.read();
        let rules = Arc::new(rules.map_err(|problem| format!("--callers-file: {problem}"))?);
        metrics.hold_to(&rules);
        Ok(rules)
    })
}

fn by_token(
    tokens: &Tokens,
    rules: &Arc<Rules>,
    headers: &HeaderMap,
) -> Result<Arc<Caller>, Unidentified> {
    let authorization = headers
        .get(AUTHORIZATION)
        .ok_or_else(|| unauthenticated("put a bearer token into the authorization metadata"))?;
    if let Some(caller) = tokens.recall(authorization, rules) {
        return Ok(caller);
    }
    let keys = tokens.keys();
    let claims = claims(&keys, authorization).map_err(|why| match why {
        Disbelief::UnknownKey if tokens.can_refetch() => Unidentified::KeyUnknown,
        why => unauthenticated(why.says()).into(),
    })?;
    let subject = Name {
        kind: NameKind::Subject,
        text: claims.subject,
    };
    let admitted = rules.admit(slice::from_ref(&subject));
    let caller = Arc::new(admitted.ok_or_else(|| TurnedAway::stranger(&subject))?);
    let verified = Verified {
        caller: Arc::clone(&caller),
        keys,
        rules: Arc::clone(rules),
        expires: claims.expires,
    };
    tokens.remember(authorization, verified);
    Ok(caller)
}

fn claims(keys: &Keys, authorization: &HeaderValue) -> Result<Claims, Disbelief> {
    let token = tokens::bearer(authorization);
    keys.check(token.ok_or(Disbelief::Of(
        "the authorization metadata holds no bearer token",
    ))?)
}

fn unauthenticated(says: &'static str) -> Error {
    Error::new(Refusal::CallerUnauthenticated).saying(says)
}

/// The SANs of a certificate that can name a caller. URIs come first, as SPIFFE ids are the more
/// precise names.
fn names(certificate: &CertificateDer<'_>) -> Vec<Name> {
    // rustls has verified it, so it can be read.
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let name = |kind| {
        move |text: &str| Name {
            kind,
            text: text.to_owned(),
        }
    };
    let uris = certificate.valid_uri_names().map(name(NameKind::Uri));
    let domains = certificate.valid_dns_names().map(name(NameKind::Dns));
    uris.chain(domains).collect()
}
