//! Which API key a call carries.

use http::HeaderValue;

use super::BuildError;
use crate::{
    config::Credentials,
    context::Context,
    error::{Error, Refusal},
    rest::KeyHolder,
};

/// An API key, as the value of an `Authorization` header, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The header's value, marked as sensitive.
    pub(super) authorization: HeaderValue,
    /// Whose key it is.
    pub(super) holder: KeyHolder,
}

/// The keys that calls may carry. The gateway's own is never mixed with a caller's.
#[derive(Clone, Debug)]
pub(super) enum KeyRing {
    /// Every call carries this key.
    Gateway(Key),
    /// Every call carries what its caller presents.
    Caller,
}

impl KeyRing {
    pub(super) fn new(credentials: &Credentials) -> Result<Self, BuildError> {
        Ok(match credentials {
            Credentials::Gateway { token, scheme } => Self::Gateway(Key {
                authorization: scheme.header(token)?,
                holder: KeyHolder::Gateway,
            }),
            Credentials::Caller => Self::Caller,
        })
    }

    pub(super) fn for_call(&self, context: &Context) -> Result<Key, Error> {
        match (self, &context.authorization) {
            (Self::Gateway(key), _) => Ok(key.clone()),
            (Self::Caller, Some(authorization)) => Ok(Key {
                authorization: authorization.clone(),
                holder: KeyHolder::Caller,
            }),
            (Self::Caller, None) => Err(Error::new(Refusal::CallerUnauthenticated)
                .saying("put your OnboardFlow API key into the authorization metadata")),
        }
    }
}
