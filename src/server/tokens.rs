//! Callers' tokens: where their keys are, and which tokens were found good. Doesn't know what a caller may
//! do.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::HeaderValue;

use super::issuer::{self, Refetch};
use crate::{
    callers::{Caller, Rules},
    config::{JwtConfig, KeySource},
    jwks::{self, Keys},
    reload::{Files, Reloaded},
    telemetry::{Secret, Secrets},
};

/// Tokens that are remembered.
const MAX_TOKENS: usize = 1024;
/// Longest `authorization` that is remembered. Tokens have one or two KiB.
const MAX_LENGTH: usize = 4096;

/// How tokens are checked.
#[derive(Debug)]
pub(super) struct Tokens {
    keys: Reloaded<Keys>,
    refetch: Option<Refetch>,
    verified: RwLock<HashMap<HeaderValue, Verified>>,
}

/// A token that was found good: a signature costs more than the rest of a call.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) caller: Arc<Caller>,
    /// What it was held to.
    pub(super) keys: Arc<Keys>,
    pub(super) rules: Arc<Rules>,
    /// In Unix seconds.
    pub(super) expires: u64,
}

impl Tokens {
    /// Reads the keys, or fetches them, for as long as that takes; and again when they change.
    pub(super) async fn follow(
        config: &JwtConfig,
        interval: Duration,
        metrics: &Secrets,
    ) -> io::Result<Self> {
        let (keys, refetch) = match &config.keys {
            KeySource::File(file) => {
                let followed = Files {
                    secret: Secret::TokenKeys,
                    paths: vec![file.clone()],
                    interval,
                    metrics: metrics.clone(),
                };
                let (file, config) = (file.clone(), config.clone());
                let read = move || {
                    let keys = Keys::read(&file, &config.issuer, &config.audience);
                    keys.map_err(|problem| format!("--jwks-file: {problem}"))
                };
                let keys = Reloaded::follow(followed, read).map_err(io::Error::other)?;
                (keys, None)
            }
            KeySource::Http(http) => {
                let (keys, refetch) = issuer::follow(http.clone(), config, metrics).await;
                (keys, Some(refetch))
            }
        };
        Ok(Self {
            keys,
            refetch,
            verified: RwLock::default(),
        })
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.get()
    }

    /// Asks the issuer for newer keys, where there is one to ask, and waits for its answer.
    pub(super) async fn refetch(&self) {
        if let Some(refetch) = &self.refetch {
            refetch.ask().await;
        }
    }

    /// Whether [`Self::refetch`] can change anything.
    pub(super) fn can_refetch(&self) -> bool {
        self.refetch.is_some()
    }

    /// Whose token this is, if it was found good under what is in force now.
    pub(super) fn recall(
        &self,
        authorization: &HeaderValue,
        rules: &Arc<Rules>,
    ) -> Option<Arc<Caller>> {
        let verified = self.verified.read().unwrap_or_else(PoisonError::into_inner);
        let token = verified.get(authorization)?;
        let holds = Arc::ptr_eq(&token.keys, &self.keys.get())
            && Arc::ptr_eq(&token.rules, rules)
            && jwks::now() < token.expires;
        holds.then(|| Arc::clone(&token.caller))
    }

    pub(super) fn remember(&self, authorization: &HeaderValue, token: Verified) {
        if authorization.len() > MAX_LENGTH {
            return;
        }
        let mut verified = self
            .verified
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= MAX_TOKENS {
            let now = jwks::now();
            verified
                .retain(|_, other| now < other.expires && Arc::ptr_eq(&other.keys, &token.keys));
            if verified.len() >= MAX_TOKENS {
                // Cheaper than to note the use of each, and as rare as so many callers are.
                verified.clear();
            }
        }
        // A copy, as the value may be a part of a larger buffer.
        if let Ok(authorization) = HeaderValue::from_bytes(authorization.as_bytes()) {
            verified.insert(authorization, token);
        }
    }
}

/// The token in a bearer `authorization`.
pub(super) fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callers::{Name, NameKind};

    #[tokio::test]
    async fn tokens_that_are_remembered_are_bounded_and_end() {
        let keys = Arc::new(Keys::default());
        let tokens = Tokens {
            keys: Reloaded::fixed(Arc::clone(&keys)),
            refetch: None,
            verified: RwLock::default(),
        };
        let rules = Arc::new(Rules::default());
        let name = Name {
            kind: NameKind::Subject,
            text: "web".to_owned(),
        };
        let caller = Arc::new(rules.admit(&[name]).unwrap());
        let remember = |authorization: &str, expires| {
            let verified = Verified {
                caller: Arc::clone(&caller),
                keys: Arc::clone(&keys),
                rules: Arc::clone(&rules),
                expires,
            };
            tokens.remember(&HeaderValue::from_str(authorization).unwrap(), verified);
        };
        let recalls = |text: &'static str, rules| {
            let authorization = HeaderValue::from_static(text);
            tokens.recall(&authorization, rules).is_some()
        };
        remember("Bearer a", jwks::now() + 60);
        remember("Bearer b", jwks::now());
        assert!(recalls("Bearer a", &rules));
        assert!(!recalls("Bearer b", &rules), "over");
        assert!(!recalls("Bearer a", &Arc::default()), "other rules");
        for n in 0..3000 {
            remember(&format!("Bearer {n}"), jwks::now() + 60);
        }
        remember(&"x".repeat(MAX_LENGTH + 1), jwks::now() + 60);
        assert!(tokens.verified.read().unwrap().len() <= MAX_TOKENS);
    }
}
