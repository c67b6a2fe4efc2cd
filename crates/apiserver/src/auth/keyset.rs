//! The keys that service account tokens are checked with, as OpenID Connect publishes them: others can then trust this
//! cluster's tokens. Follows upstream `pkg/serviceaccount/openidmetadata.go`.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use sha2::{Digest, Sha256};

pub const CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
pub const KEYS_PATH: &str = "/openid/v1/jwks";

/// The published keys.
pub(crate) struct Keyset {
    issuer: String,
    keys: Vec<Jwk>,
}

impl Keyset {
    /// `keys`: each key with the PEM that it came from.
    pub(super) fn new<'k>(issuer: &str, keys: impl Iterator<Item = (&'k [u8], Algorithm, &'k DecodingKey)>) -> Keyset {
        let jwk = |(pem, algorithm, key): (&[u8], Algorithm, &DecodingKey)| {
            let mut jwk = Jwk::from_decoding_key(key, Some(algorithm)).ok()?;
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            jwk.common.key_id = key_id(pem);
            Some(jwk)
        };
        Keyset { issuer: issuer.to_owned(), keys: keys.filter_map(jwk).collect() }
    }

    /// The id of the key that checks what `signing` signs, for the tokens' header.
    pub(super) fn id_of(&self, signing: &EncodingKey, algorithm: Algorithm) -> Option<String> {
        let public = Jwk::from_encoding_key(signing, algorithm).ok()?;
        self.keys.iter().find(|key| key.algorithm == public.algorithm)?.common.key_id.clone()
    }

    /// `/openid/v1/jwks`
    pub(crate) fn keys(&self) -> serde_json::Value {
        serde_json::json!(JwkSet { keys: self.keys.clone() })
    }

    /// `/.well-known/openid-configuration`; `host` is where clients reach this server. `None`: the issuer is not one that
    /// OpenID Connect knows, which are `https` addresses.
    pub(crate) fn configuration(&self, host: &str) -> Option<serde_json::Value> {
        let is_address = self.issuer.starts_with("https://") && !self.issuer.contains(['?', '#']);
        let mut algorithms: Vec<String> =
            self.keys.iter().filter_map(|key| Some(key.common.key_algorithm?.to_string())).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        is_address.then(|| {
            serde_json::json!({
                "issuer": self.issuer,
                "jwks_uri": format!("https://{host}{KEYS_PATH}"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": algorithms,
            })
        })
    }
}

/// As upstream's `keyIDFromPublicKey`: the digest of the key's SubjectPublicKeyInfo.
fn key_id(pem: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----")?;
    let (body, _) = rest.split_once("-----END PUBLIC KEY-----")?;
    let body: String = body.split_whitespace().collect();
    Some(URL_SAFE_NO_PAD.encode(Sha256::digest(STANDARD.decode(body).ok()?)))
}
