//! Which API key a call carries: the gateway's own or its site's, or the one that its caller brings.
//! The two are never mixed.
//!
//! Keys from files are read again every two seconds, by a thread of their own, so that no worker
//! waits for a file system. A file that can't be read, or holds no key, changes nothing.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    io,
    sync::{Arc, PoisonError, RwLock, mpsc},
    thread,
    time::Duration,
};

use http::HeaderValue;
use secrecy::SecretString;
use sha1::{Digest as _, Sha1};
use tracing::{error, info};

use super::{BuildError, observer::Observer};
use crate::{
    config::{AuthScheme, Credentials, KeyFiles, Keys},
    context::Context,
    error::{Error, Refusal, Violation},
    rest::KeyHolder,
};

/// How often the files are read again.
const POLL: Duration = Duration::from_secs(2);

/// An API key, as the value of an `Authorization` header, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The header's value, marked as sensitive.
    pub(super) authorization: HeaderValue,
    /// Whose key it is.
    pub(super) holder: KeyHolder,
    /// Tells keys apart, within this process.
    pub(super) id: u64,
    /// What the key is called in logs and metrics, which is not the key: `default`, `caller`, or
    /// [`site_name`].
    pub(super) name: Arc<str>,
}

/// The keys that calls may carry. Shared by all workers.
#[derive(Debug)]
pub(super) enum KeyRing {
    /// The gateway's own.
    Gateway {
        keys: Arc<RwLock<Ring>>,
        /// Ends the thread that reads the files, when it is dropped.
        _stop: Option<mpsc::Sender<()>>,
    },
    /// Every call carries what its caller presents.
    Caller { hasher: RandomState, name: Arc<str> },
}

/// The gateway's keys, ready to be sent.
#[derive(Debug, Default)]
pub(super) struct Ring {
    default: Option<Key>,
    sites: HashMap<String, Key>,
}

impl KeyRing {
    pub(super) fn new(
        credentials: &Credentials,
        observer: &Arc<dyn Observer>,
    ) -> Result<Self, BuildError> {
        let (keys, files, scheme) = match credentials {
            Credentials::Gateway { token, scheme } => (Keys::one(token.clone()), None, *scheme),
            Credentials::Files {
                keys,
                files,
                scheme,
            } => (keys.clone(), Some(files.clone()), *scheme),
            Credentials::Caller => {
                return Ok(Self::Caller {
                    hasher: RandomState::new(),
                    name: "caller".into(),
                });
            }
        };
        let hasher = RandomState::new();
        let ring = Arc::new(RwLock::new(Ring::new(&keys, scheme, &hasher)?));
        observer.keys_read();
        let stop = match files {
            None => None,
            Some(files) => {
                let reader = Reader {
                    files,
                    keys,
                    scheme,
                    hasher,
                    ring: Arc::clone(&ring),
                    observer: Arc::clone(observer),
                    failing: false,
                };
                Some(reader.start().map_err(BuildError::Thread)?)
            }
        };
        Ok(Self::Gateway {
            keys: ring,
            _stop: stop,
        })
    }

    pub(super) fn for_call(&self, context: &Context, site: &str) -> Result<Key, Error> {
        match (self, &context.authorization) {
            (Self::Gateway { keys, .. }, _) => {
                let ring = keys.read().unwrap_or_else(PoisonError::into_inner);
                ring.of_site(site).cloned().ok_or_else(|| {
                    Error::invalid(vec![Violation::new(
                        "site_key",
                        "this site has no API key at the gateway; ask its operators",
                    )])
                })
            }
            (Self::Caller { hasher, name }, Some(authorization)) => Ok(Key {
                authorization: authorization.clone(),
                holder: KeyHolder::Caller,
                id: hasher.hash_one(authorization.as_bytes()),
                name: Arc::clone(name),
            }),
            (Self::Caller { .. }, None) => Err(Error::new(Refusal::CallerUnauthenticated)
                .saying("put your OnboardFlow API key into the authorization metadata")),
        }
    }
}

impl Ring {
    fn new(keys: &Keys, scheme: AuthScheme, hasher: &RandomState) -> Result<Self, BuildError> {
        let key = |name: &str, token: &SecretString| -> Result<Key, BuildError> {
            let authorization = scheme.header(token)?;
            Ok(Key {
                holder: KeyHolder::Gateway,
                id: hasher.hash_one(authorization.as_bytes()),
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
fn site_name(site: &str) -> String {
    let [a, b, c, d, ..] = Sha1::digest(site).0;
    format!("site-{:08x}", u32::from_be_bytes([a, b, c, d]))
}

/// Reads the files again and again.
struct Reader {
    files: KeyFiles,
    keys: Keys,
    scheme: AuthScheme,
    hasher: RandomState,
    ring: Arc<RwLock<Ring>>,
    observer: Arc<dyn Observer>,
    failing: bool,
}

impl Reader {
    fn start(mut self) -> io::Result<mpsc::Sender<()>> {
        let (stop, stopped) = mpsc::channel();
        thread::Builder::new()
            .name("credentials".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(POLL) == Err(mpsc::RecvTimeoutError::Timeout) {
                    self.read();
                }
            })?;
        Ok(stop)
    }

    fn read(&mut self) {
        let ring = self.files.read().and_then(|keys| {
            if keys == self.keys {
                return Ok(None);
            }
            let ring = Ring::new(&keys, self.scheme, &self.hasher);
            let ring = ring.map_err(|_| "a key can't be put into a header".to_owned())?;
            Ok(Some((keys, ring)))
        });
        match ring {
            Ok(None) => self.failing = false,
            Ok(Some((keys, ring))) => {
                self.failing = false;
                self.keys = keys;
                *self.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
                self.observer.keys_read();
                info!("the API keys changed, and are used from now on");
            }
            // Once, and not every two seconds.
            Err(_) if self.failing => {}
            Err(problem) => {
                self.failing = true;
                self.observer.keys_unreadable();
                error!(
                    problem,
                    "the API keys could not be read again; the old ones stay in use"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sites_name_is_what_sha1sum_says() {
        assert_eq!(site_name("f37F2PPh"), "site-b30ef3aa");
    }
}
