//! Who calls, and who may: by client certificate, by token, or by both where both are configured.

use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use webpki::EndEntityCert;

use super::tokens::{self, Keys, Tokens};
use crate::{
    config::AllowList,
    context::Caller,
    error::{Error, Refusal},
};

/// What is asked of callers.
#[derive(Debug)]
pub(super) struct Callers {
    pub(super) allow: AllowList,
    /// Whether TLS demands a client certificate.
    pub(super) certificates: bool,
    pub(super) tokens: Option<Tokens>,
}

/// What is known of the other end of a connection. Each call on it has this in its extensions.
#[derive(Debug)]
pub(super) struct Peer {
    /// The SANs of its certificate.
    names: Vec<String>,
    /// What they are worth, where certificates alone decide.
    by_certificate: Result<Option<Arc<Caller>>, Refusal>,
    /// The token of the last call: the calls of a connection mostly have the same.
    believed: Mutex<Option<Believed>>,
    /// Cancelled when its calls have to end.
    pub(super) over: CancellationToken,
}

#[derive(Debug)]
struct Believed {
    authorization: HeaderValue,
    keys: Arc<Keys>,
    expires: u64,
    caller: Arc<Caller>,
}

impl Peer {
    pub(super) fn new(
        callers: &Callers,
        certificate: Option<&CertificateDer<'_>>,
        over: CancellationToken,
    ) -> Self {
        let names = certificate.map(names).unwrap_or_default();
        let by_certificate = if callers.certificates && callers.tokens.is_none() {
            match names.first() {
                Some(first) => callers.admit(first, &names).map(Some),
                None => Err(Refusal::CallerUnauthenticated),
            }
        } else {
            Ok(None)
        };
        Self {
            names,
            by_certificate,
            believed: Mutex::new(None),
            over,
        }
    }
}

impl Callers {
    /// Who makes a call with these headers; nobody in particular where nothing is asked of callers.
    pub(super) fn identify(
        &self,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Option<Arc<Caller>>, Error> {
        match &self.tokens {
            None => peer.by_certificate.clone().map_err(|refusal| {
                let error = Error::new(refusal);
                if refusal == Refusal::CallerUnauthenticated {
                    error.saying("the client certificate has neither a DNS name nor a URI")
                } else {
                    error
                }
            }),
            Some(tokens) => self.by_token(tokens, headers, peer).map(Some),
        }
    }

    fn by_token(
        &self,
        tokens: &Tokens,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Arc<Caller>, Error> {
        let unauthenticated = |says| Error::new(Refusal::CallerUnauthenticated).saying(says);
        let authorization = headers.get(AUTHORIZATION);
        let authorization = authorization
            .ok_or_else(|| unauthenticated("put a bearer token into the authorization metadata"))?;
        let keys = tokens.get();
        if let Some(caller) = peer.recall(authorization, &keys) {
            return Ok(caller);
        }
        let token = tokens::bearer(authorization)
            .ok_or_else(|| unauthenticated("the authorization metadata holds no bearer token"))?;
        let claims = keys.check(token).map_err(unauthenticated)?;
        let caller = self
            .admit(&claims.subject, &peer.names)
            .map_err(Error::new)?;
        peer.remember(Believed {
            authorization: authorization.clone(),
            keys,
            expires: claims.expires,
            caller: Arc::clone(&caller),
        });
        Ok(caller)
    }

    /// The caller of this name, if the list has it, or another of its names.
    fn admit(&self, name: &str, others: &[String]) -> Result<Arc<Caller>, Refusal> {
        std::iter::once(name)
            .chain(others.iter().map(String::as_str))
            .find(|name| self.allow.has(name))
            .map(|name| {
                Arc::new(Caller {
                    name: name.to_owned(),
                })
            })
            .ok_or(Refusal::CallerNotAllowed)
    }
}

impl Peer {
    fn recall(&self, authorization: &HeaderValue, keys: &Arc<Keys>) -> Option<Arc<Caller>> {
        let believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = believed.as_ref()?;
        let holds = believed.authorization == *authorization
            && Arc::ptr_eq(&believed.keys, keys)
            && tokens::now() < believed.expires;
        holds.then(|| Arc::clone(&believed.caller))
    }

    fn remember(&self, believed: Believed) {
        let mut last = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(believed);
    }
}

/// The SANs of a certificate that can name a caller. URIs come first, as SPIFFE ids are the more
/// precise names.
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    // rustls has verified it, so it can be read.
    let Ok(certificate) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let uris = certificate.valid_uri_names();
    uris.chain(certificate.valid_dns_names())
        .map(str::to_owned)
        .collect()
}
