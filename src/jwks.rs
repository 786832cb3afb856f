//! The keys of callers' tokens, and what a token says: JSON Web Key Sets and JSON Web Tokens.
//!
//! RS256, ES256 and `EdDSA` only, each with a key that is of that kind: the token's own word on its algorithm
//! decides nothing.

use std::{path::Path, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    get_current_timestamp,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

use crate::files;

/// Seconds that clocks may differ.
const LEEWAY: u64 = 30;
/// Keys that a set may hold. Issuers publish two or three; several of one id are tried one by one.
const MAX_KEYS: usize = 64;

/// Who a token says that the caller is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claims {
    pub(crate) subject: String,
    /// Until when it may be believed, in Unix seconds.
    pub(crate) expires: u64,
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disbelief {
    /// No key has the id that it names. There may be newer keys.
    UnknownKey,
    /// For what its caller is told.
    Of(&'static str),
}

impl Disbelief {
    pub(crate) fn says(self) -> &'static str {
        match self {
            Self::UnknownKey => "the token is signed with a key that the gateway doesn't have",
            Self::Of(says) => says,
        }
    }
}

/// The keys of one set.
#[derive(Debug, Default)]
pub(crate) struct Keys(Vec<Key>);

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

impl Keys {
    pub(crate) fn read(file: &Path, issuer: &str, audience: &str) -> Result<Self, &'static str> {
        Self::parse(&files::read(file)?, issuer, audience)
    }

    /// The keys in a set that are of use here. What the set holds besides is no concern of ours.
    pub(crate) fn parse(json: &[u8], issuer: &str, audience: &str) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|_| "is not a JSON Web Key Set")?;
        let jwks = set
            .keys
            .into_iter()
            .filter_map(|key| Jwk::deserialize(key).ok());
        let keys: Vec<_> = jwks
            .filter_map(|jwk| Key::new(&jwk, issuer, audience))
            .take(MAX_KEYS + 1)
            .collect();
        match keys.len() {
            0 => Err("holds no key for RS256, ES256 or EdDSA"),
            1..=MAX_KEYS => Ok(Self(keys)),
            _ => Err("holds more than 64 keys"),
        }
    }

    /// What a token says, if it is to be believed.
    pub(crate) fn check(&self, token: &str) -> Result<Claims, Disbelief> {
        let header = decode_header(token).map_err(|_| Disbelief::Of("the token is not a JWT"))?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: what isn't understood must not be passed over.
            return Err(Disbelief::Of(
                "the token's header has a `crit`, and the gateway knows no extensions",
            ));
        }
        let mut failure = Disbelief::UnknownKey;
        for key in self.candidates(header.kid.as_deref()) {
            match key.check(token) {
                Ok(claims) => return Ok(claims),
                Err(error) => {
                    failure = Disbelief::Of(describe(error.kind()));
                    if !is_about_the_key(error.kind()) {
                        break;
                    }
                }
            }
        }
        Err(failure)
    }

    /// The keys that may have signed a token that names this id: those that have it, and those without
    /// any. A token that names none is only taken where there is no choice.
    fn candidates(&self, id: Option<&str>) -> impl Iterator<Item = &Key> {
        let is_only = self.0.len() == 1;
        self.0
            .iter()
            .filter(move |key| match (id, key.id.as_deref()) {
                (Some(named), Some(id)) => named == id,
                (Some(_), None) => true,
                (None, _) => is_only,
            })
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
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
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

    /// What a token says, if this key has signed it.
    fn check(&self, token: &str) -> Result<Claims, jsonwebtoken::errors::Error> {
        #[derive(Deserialize)]
        struct Body {
            sub: String,
            exp: f64,
            /// One issuer: the validation would also take a list that has it.
            #[serde(rename = "iss")]
            _iss: String,
        }
        let body = decode::<Body>(token, &self.verifier, &self.validation)?.claims;
        if body.sub.is_empty() {
            return Err(ErrorKind::MissingRequiredClaim("sub".to_owned()).into());
        }
        let expires = Duration::try_from_secs_f64(body.exp).unwrap_or_default();
        Ok(Claims {
            subject: body.sub,
            expires: expires.as_secs().saturating_add(LEEWAY),
        })
    }
}

/// Whether another key may do better.
fn is_about_the_key(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm
    )
}

/// What a caller is told. Nothing here depends on a secret.
fn describe(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is from another issuer",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::InvalidAlgorithm => {
            "the token's algorithm is not that of its key, which is RS256, ES256 or EdDSA"
        }
        ErrorKind::MissingRequiredClaim(_) => "the token must have exp, iss, aud and sub",
        _ => "the token is malformed",
    }
}

/// Now, in Unix seconds, by the clock that tokens are checked with.
pub(crate) fn now() -> u64 {
    get_current_timestamp()
}

/// Whether a file can be used.
pub(crate) fn check(file: &Path) -> Result<(), &'static str> {
    Keys::read(file, "", "").map(drop)
}
