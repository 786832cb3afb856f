//! Which API key a call carries: the gateway's own or its site's, or the one that its caller brings.
//! The two are never mixed.
//!
//! Keys from files are followed ([`crate::reload`]). A file that can't be read, or holds no key,
//! changes nothing.

use std::{collections::HashMap, sync::Arc};

use http::HeaderValue;
use secrecy::SecretString;
use sha1::{Digest as _, Sha1};

use super::BuildError;
use crate::{
    config::{AuthScheme, Credentials, KeyFiles, Keys, RELOAD_INTERVAL},
    context::Context,
    error::{Error, Refusal, Violation},
    reload::{Files, Reloaded},
    rest::KeyHolder,
    telemetry::{Secret, Secrets},
};

/// An API key, as the value of an `Authorization` header, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The header's value, marked as sensitive.
    pub(super) authorization: HeaderValue,
    /// Whose key it is.
    pub(super) holder: KeyHolder,
    /// What the key is called in logs and metrics, which is not the key: `default`, `caller`, or
    /// [`site_name`].
    pub(super) name: Arc<str>,
}

/// The keys that calls may carry. Shared by all workers.
#[derive(Debug)]
pub(super) enum KeyRing {
    /// The gateway's own.
    Gateway(Reloaded<Ring>),
    /// Every call carries what its caller presents.
    Caller { name: Arc<str> },
}

/// Reads the files, and again when they change.
fn follow(
    files: KeyFiles,
    scheme: AuthScheme,
    metrics: &Secrets,
) -> Result<Reloaded<Ring>, BuildError> {
    let followed = Files {
        secret: Secret::Token,
        paths: files.default.iter().chain(&files.sites).cloned().collect(),
        interval: RELOAD_INTERVAL,
        metrics: metrics.clone(),
    };
    Reloaded::follow(followed, move || {
        let keys = files.read().map_err(BuildError::Files)?;
        Ring::new(&keys, scheme)
    })
}

/// The gateway's keys, ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Ring {
    default: Option<Key>,
    sites: HashMap<String, Key>,
}

impl KeyRing {
    pub(super) fn new(credentials: &Credentials, metrics: &Secrets) -> Result<Self, BuildError> {
        Ok(match credentials {
            Credentials::Gateway { token, scheme } => {
                let ring = Ring::new(&Keys::one(token.clone()), *scheme)?;
                metrics.loaded(Secret::Token);
                Self::Gateway(Reloaded::fixed(ring))
            }
            Credentials::Files { files, scheme } => {
                Self::Gateway(follow(files.clone(), *scheme, metrics)?)
            }
            Credentials::Caller => Self::Caller {
                name: "caller".into(),
            },
        })
    }

    pub(super) fn for_call(&self, context: &Context, site: &str) -> Result<Key, Error> {
        match (self, &context.authorization) {
            (Self::Gateway(ring), _) => ring.get().of_site(site).cloned().ok_or_else(|| {
                Error::invalid(vec![Violation::new(
                    "site_key",
                    "this site has no API key at the gateway; ask its operators",
                )])
            }),
            (Self::Caller { name }, Some(authorization)) => Ok(Key {
                authorization: authorization.clone(),
                holder: KeyHolder::Caller,
                name: Arc::clone(name),
            }),
            (Self::Caller { .. }, None) => Err(Error::new(Refusal::CallerUnauthenticated)
                .saying("put your OnboardFlow API key into the authorization metadata")),
        }
    }

    /// The gateway's own keys.
    pub(super) fn named(&self) -> Vec<Key> {
        match self {
            Self::Gateway(ring) => {
                let ring = ring.get();
                let sites = ring.sites.values();
                ring.default.iter().chain(sites).cloned().collect()
            }
            Self::Caller { .. } => Vec::new(),
        }
    }
}

impl Ring {
    fn new(keys: &Keys, scheme: AuthScheme) -> Result<Self, BuildError> {
        let key = |name: &str, token: &SecretString| -> Result<Key, BuildError> {
            let authorization = scheme.header(token)?;
            Ok(Key {
                holder: KeyHolder::Gateway,
                authorization,
                name: name.into(),
            })
        };
        let default = keys.default.as_ref().map(|token| key("default", token));
        let sites = keys.sites.iter();
        Ok(Self {
            default: default.transpose()?,
            sites: sites
                .map(|(site, token)| Ok((site.clone(), key(&site_name(site), token)?)))
                .collect::<Result<_, BuildError>>()?,
        })
    }

    fn of_site(&self, site: &str) -> Option<&Key> {
        self.sites.get(site).or(self.default.as_ref())
    }
}

/// What a site's key is called: a site key has no business in logs and metrics either. Who has it
/// finds the name by `printf %s SITE_KEY | sha1sum`.
pub(super) fn site_name(site: &str) -> String {
    let [a, b, c, d, ..] = Sha1::digest(site).0;
    format!("site-{:08x}", u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sites_name_is_what_sha1sum_says() {
        assert_eq!(site_name("f37F2PPh"), "site-b30ef3aa");
    }
}
