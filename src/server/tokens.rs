//! Callers' tokens: bearer JWTs, such as Kubernetes' service accounts have.
//!
//! RS256 and ES256 only, each with a key that is of that kind: the token's own word on its algorithm
//! decides nothing.

use std::{fs, path::Path, time::Duration};

use http::HeaderValue;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header, get_current_timestamp,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;

use crate::{
    config::JwtConfig,
    reload::{Files, Reloaded},
    telemetry::{Secret, Secrets},
};

/// Seconds that clocks may differ.
const LEEWAY: u64 = 30;

/// Who a token says that the caller is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) subject: String,
    /// Until when it may be believed, in Unix seconds.
    pub(super) expires: u64,
}

/// The keys that tokens are checked with, as they are now.
pub(super) type Tokens = Reloaded<Keys>;

/// The keys of one content of the file.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

struct Key {
    id: Option<String>,
    verifier: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// Reads the file, and again when it changes.
pub(super) fn follow(
    config: &JwtConfig,
    interval: Duration,
    metrics: &Secrets,
) -> Result<Tokens, &'static str> {
    let followed = Files {
        secret: Secret::TokenKeys,
        paths: vec![config.jwks.clone()],
        interval,
        metrics: metrics.clone(),
    };
    let config = config.clone();
    Reloaded::follow(followed, move || {
        Keys::read(&config.jwks, &config.issuer, &config.audience)
    })
}

impl Keys {
    fn read(file: &Path, issuer: &str, audience: &str) -> Result<Self, &'static str> {
        let json = fs::read(file).map_err(|_| "can't be read")?;
        let set: JwkSet = serde_json::from_slice(&json).map_err(|_| "is not a JSON Web Key Set")?;
        let keys: Vec<_> = set
            .keys
            .iter()
            .filter_map(|jwk| Key::new(jwk, issuer, audience))
            .collect();
        if keys.is_empty() {
            return Err("holds no key for RS256 or ES256");
        }
        Ok(Self(keys))
    }

    /// What a token says, if it is to be believed.
    pub(super) fn check(&self, token: &str) -> Result<Claims, &'static str> {
        #[derive(Deserialize)]
        struct Body {
            sub: String,
            exp: f64,
        }
        let header = decode_header(token).map_err(|_| "the token is not a JWT")?;
        let key = self
            .find(header.kid.as_deref())
            .ok_or("the token is signed with a key that the gateway doesn't have")?;
        let body = decode::<Body>(token, &key.verifier, &key.validation)
            .map_err(|error| describe(error.kind()))?
            .claims;
        if body.sub.is_empty() {
            return Err("the token names no subject");
        }
        let expires = Duration::try_from_secs_f64(body.exp).unwrap_or_default();
        Ok(Claims {
            subject: body.sub,
            expires: expires.as_secs().saturating_add(LEEWAY),
        })
    }

    /// The key with this id. A token that names none is only taken where there is no choice.
    fn find(&self, id: Option<&str>) -> Option<&Key> {
        match (id, self.0.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
        }
    }
}

impl Key {
    /// The key, if it is one for signatures that are accepted here.
    fn new(jwk: &Jwk, issuer: &str, audience: &str) -> Option<Self> {
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            _ => return None,
        };
        let is_usable = jwk.common.key_algorithm.is_none_or(|name| name == named)
            && (jwk.common.public_key_use.as_ref())
                .is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        if !is_usable {
            return None;
        }
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Some(Self {
            id: jwk.common.key_id.clone(),
            verifier: DecodingKey::from_jwk(jwk).ok()?,
            validation,
        })
    }
}

/// What a caller is told. Nothing here depends on a secret.
fn describe(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is from another issuer",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAlgorithm => "the token must be signed with RS256 or ES256",
        ErrorKind::MissingRequiredClaim(_) => "the token must have exp, iss, aud and sub",
        _ => "the token is malformed",
    }
}

/// The token in a bearer `authorization`.
pub(super) fn bearer(authorization: &HeaderValue) -> Option<&str> {
    let (scheme, token) = authorization.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start())
}

/// Now, in Unix seconds, by the clock that tokens are checked with.
pub(super) fn now() -> u64 {
    get_current_timestamp()
}

/// Whether this file can be used.
pub fn check(file: &Path) -> Result<(), &'static str> {
    Keys::read(file, "", "").map(drop)
}
