//! What a row holds of a call: nothing that anybody can read who can't repeat the call.
//!
//! The row's name is a hash of site key and request id. The request is kept as an HMAC and the
//! response under AES-256-GCM, both with keys that HKDF makes of the request id and the whole call.
//! None of the keys is stored.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    digest::{self, SHA256},
    error::Unspecified,
    hkdf::{HKDF_SHA256, Prk, Salt},
    hmac,
};

use super::Write;

/// Bytes of a hash and of a key.
pub(super) const HASH: usize = 32;

/// The salt of all keys. Another form of rows gets another one.
const SALT: &[u8] = b"onboardflow-gateway ledger 1";

/// A write's name and keys.
pub(super) struct Seal {
    /// Names the row.
    pub(super) id: [u8; HASH],
    /// Tells whether a call is the same.
    pub(super) request: [u8; HASH],
    key: RandomizedNonceKey,
}

impl Seal {
    pub(super) fn new(write: &Write<'_>) -> Result<Self, Unspecified> {
        let id = digest::digest(
            &SHA256,
            &framed(&[write.site_key.as_bytes(), write.request_id]),
        );
        let call = framed(&write.call);
        let secret = framed(&[write.request_id, &call]);
        let keys = Salt::new(HKDF_SHA256, SALT).extract(&secret);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &derive(&keys, b"request")?);
        Ok(Self {
            id: hash(id.as_ref())?,
            request: hash(hmac::sign(&mac, &call).as_ref())?,
            key: RandomizedNonceKey::new(&AES_256_GCM, &derive(&keys, b"response")?)?,
        })
    }

    /// The response as it is stored: the nonce, and what only a repeat of the call opens.
    pub(super) fn seal(&self, mut response: Vec<u8>) -> Result<Vec<u8>, Unspecified> {
        let aad = Aad::from(&self.id);
        let nonce = self.key.seal_in_place_append_tag(aad, &mut response)?;
        Ok([&nonce.as_ref()[..], &response].concat())
    }

    /// The response, if it is the one that was stored for this call.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Unspecified)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut bytes = sealed.to_vec();
        let opened = self
            .key
            .open_in_place(nonce, Aad::from(&self.id), &mut bytes)?;
        Ok(opened.to_vec())
    }
}

/// What stands for an API key, a share of its calls or a whole request id.
pub(super) fn hashed(parts: &[&[u8]]) -> [u8; HASH] {
    let digest = digest::digest(&SHA256, &framed(&[SALT, &framed(parts)]));
    let mut hashed = [0; HASH];
    hashed.copy_from_slice(digest.as_ref());
    hashed
}

/// The parts one after the other, each with its length, so that no two lists read the same.
fn framed(parts: &[&[u8]]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        framed.extend((part.len() as u64).to_be_bytes());
        framed.extend_from_slice(part);
    }
    framed
}

fn hash(bytes: &[u8]) -> Result<[u8; HASH], Unspecified> {
    bytes.try_into().map_err(|_| Unspecified)
}

fn derive(keys: &Prk, purpose: &[u8]) -> Result<[u8; HASH], Unspecified> {
    let mut key = [0; HASH];
    keys.expand(&[purpose], HKDF_SHA256)?.fill(&mut key)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Again;

    const BODY: &[u8] = br#"{"customer_email":"test@onboardflow.com"}"#;

    fn write<'a>(request_id: &'a str, site_key: &'a str, body: &'a [u8]) -> Write<'a> {
        Write {
            request_id: request_id.as_bytes(),
            id: "",
            site_key,
            site: "",
            method: "",
            call: [b"POST", b"/", body],
            again: Again::Never,
        }
    }

    #[test]
    fn only_the_same_call_opens_a_response() {
        let seal = Seal::new(&write("id", "site", BODY)).unwrap();
        let stored = seal.seal(b"the event".to_vec()).unwrap();
        assert!(!stored.windows(5).any(|bytes| bytes == b"event"));

        let same = Seal::new(&write("id", "site", BODY)).unwrap();
        assert_eq!((same.id, same.request), (seal.id, seal.request));
        assert_eq!(same.open(&stored).unwrap(), b"the event");

        for other in [
            write("id", "site", b"{}"),
            write("di", "site", BODY),
            write("id", "sit", BODY),
        ] {
            let other = Seal::new(&other).unwrap();
            assert!(other.open(&stored).is_err());
        }
        assert!(same.open(&stored[1..]).is_err());
        assert!(same.open(&[]).is_err());
    }

    #[test]
    fn the_same_id_of_another_request_has_the_same_row() {
        let seal = Seal::new(&write("id", "site", BODY)).unwrap();
        let other = Seal::new(&write("id", "site", b"{}")).unwrap();
        assert_eq!(seal.id, other.id);
        assert_ne!(seal.request, other.request);
        assert_ne!(seal.id, Seal::new(&write("id", "etis", BODY)).unwrap().id);
    }
}
