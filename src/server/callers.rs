//! Who calls, and who may: by client certificate, by token, or by both where both are configured.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use webpki::EndEntityCert;

use super::tokens::{self, Keys, Tokens};
use crate::{
    config::{AllowList, Name, NameKind},
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
    /// Where it is, for the log.
    pub(super) address: Option<SocketAddr>,
    /// Who its certificate says that it is, if it may call; nobody where no certificate is demanded.
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
        address: Option<SocketAddr>,
        certificate: Option<&CertificateDer<'_>>,
        over: CancellationToken,
    ) -> Self {
        let by_certificate = if callers.certificates {
            callers.by_certificate(&certificate.map(names).unwrap_or_default())
        } else {
            Ok(None)
        };
        Self {
            address,
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
        let by_certificate = peer.by_certificate.clone().map_err(|refusal| {
            let error = Error::new(refusal);
            if refusal == Refusal::CallerUnauthenticated {
                error.saying("the client certificate has neither a DNS name nor a URI")
            } else {
                error
            }
        })?;
        match &self.tokens {
            None => Ok(by_certificate),
            Some(tokens) => self.by_token(tokens, headers, peer).map(Some),
        }
    }

    /// The caller that a certificate with these names is for, if it may call. Where a token says who
    /// calls, a certificate needs a name only for the list.
    fn by_certificate(&self, names: &[Name]) -> Result<Option<Arc<Caller>>, Refusal> {
        match (names, &self.tokens) {
            ([], None) => Err(Refusal::CallerUnauthenticated),
            ([], Some(_)) if self.allow.is_empty() => Ok(None),
            (names, _) => self.admit(names).map(Some),
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
        let subject = Name {
            kind: NameKind::Subject,
            text: claims.subject,
        };
        let caller = self.admit(&[subject]).map_err(Error::new)?;
        peer.remember(Believed {
            authorization: authorization.clone(),
            keys,
            expires: claims.expires,
            caller: Arc::clone(&caller),
        });
        Ok(caller)
    }

    /// The caller with these names, called by the first that the list has.
    fn admit(&self, names: &[Name]) -> Result<Arc<Caller>, Refusal> {
        let listed = names.iter().find(|name| self.allow.has(name));
        let caller = listed.map(|name| {
            Arc::new(Caller {
                name: name.text.clone(),
            })
        });
        caller.ok_or(Refusal::CallerNotAllowed)
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
