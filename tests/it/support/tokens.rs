//! Tokens, and the keys that sign them.

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, encode, get_current_timestamp,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use onboardflow_gateway::proto::customer_service_client::CustomerServiceClient;
use rcgen::{KeyPair, RsaKeySize};
use serde_json::{Value, json};
use tonic::{Request, Status, transport::Channel};

use super::create_request;

/// A key, and what stands in the file about it.
pub struct Signer {
    pub key: EncodingKey,
    /// Where it can't be read out of the key.
    public: Option<DecodingKey>,
    pub algorithm: Algorithm,
    pub id: &'static str,
}

impl Signer {
    pub fn ec(id: &'static str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            public: None,
            key: EncodingKey::from_ec_der(&key.serialize_der()),
            algorithm: Algorithm::ES256,
            id,
        }
    }

    pub fn ed(id: &'static str) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        Self {
            public: Some(DecodingKey::from_ed_der(key.public_key_raw())),
            key: EncodingKey::from_ed_der(&key.serialize_der()),
            algorithm: Algorithm::EdDSA,
            id,
        }
    }

    pub fn rsa(id: &'static str) -> Self {
        let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let pkcs8 = key.serialize_der();
        Self {
            public: None,
            // PKCS #1 stands at the end of PKCS #8, behind 26 bytes that say what it is.
            key: EncodingKey::from_rsa_der(&pkcs8[26..]),
            algorithm: Algorithm::RS256,
            id,
        }
    }

    pub fn jwk(&self) -> Jwk {
        let jwk = match &self.public {
            Some(public) => Jwk::from_decoding_key(public, Some(self.algorithm)),
            None => Jwk::from_encoding_key(&self.key, self.algorithm),
        };
        let mut jwk = jwk.unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk
    }

    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.to_owned());
        encode(&header, claims, &self.key).unwrap()
    }
}

pub fn jwks(signers: &[&Signer]) -> String {
    let keys = signers.iter().map(|signer| signer.jwk()).collect();
    serde_json::to_string(&JwkSet { keys }).unwrap()
}

pub const WEB: &str = "system:serviceaccount:prod:web";

/// The claims of a good token, with this changed.
pub fn claims(change: &[(&str, Value)]) -> Value {
    let now = get_current_timestamp();
    let mut claims = json!({
        "iss": "https://issuer.test",
        "aud": ["onboardflow-gateway"],
        "sub": WEB,
        "exp": now + 600,
        "nbf": now - 600,
    });
    for (name, value) in change {
        claims[name] = value.clone();
    }
    claims
}

/// The claims of this subject.
pub fn claims_of(subject: &str) -> Value {
    claims(&[("sub", json!(subject))])
}

/// Creates a customer with this `authorization`.
pub async fn present(
    client: &mut CustomerServiceClient<Channel>,
    authorization: &str,
) -> Result<(), Status> {
    let mut request = Request::new(create_request());
    let authorization = authorization.parse().unwrap();
    request
        .metadata_mut()
        .insert("authorization", authorization);
    client.create_customer(request).await.map(drop)
}
