//! Service account tokens: signed JWTs bound to a service account and, most often, to a pod. A token is only as good as
//! what it is bound to: with the pod or the account gone, it is refused (upstream `pkg/serviceaccount`).

use std::{collections::BTreeMap, sync::Arc};

use api::Value;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::{UserInfo, keyset::Keyset};
use crate::{Clock, ServiceAccountKeys, cache::Cache};

pub struct Tokens {
    issuer: String,
    audiences: Vec<String>,
    signing: EncodingKey,
    algorithm: Algorithm,
    verification: Vec<(Algorithm, DecodingKey)>,
    pub(crate) keyset: Keyset,
    /// Which of the published keys checks our tokens.
    key_id: Option<String>,
    cache: Arc<Cache>,
    clock: Arc<dyn Clock>,
}

/// A token that was good, and for whom.
pub struct Verified {
    pub user: UserInfo,
    pub audiences: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("not a token of this cluster: {0}")]
    Invalid(#[from] jsonwebtoken::errors::Error),
    #[error("token is not for this server but for {0:?}")]
    Audience(Vec<String>),
    #[error("token has expired")]
    Expired,
    #[error("what the token is bound to is gone: {0}")]
    Unbound(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    #[serde(default, deserialize_with = "one_or_many")]
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    jti: String,
    nbf: i64,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reference {
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

/// What a new token is for.
pub struct Request<'a> {
    pub namespace: &'a str,
    pub account: Reference,
    pub pod: Option<Reference>,
    pub secret: Option<Reference>,
    pub node: Option<Reference>,
    pub audiences: Vec<String>,
    pub seconds: i64,
}

impl Tokens {
    pub fn new(keys: &ServiceAccountKeys, cache: Arc<Cache>, clock: Arc<dyn Clock>) -> Result<Tokens, String> {
        let (algorithm, signing) = signing_key(&keys.signing_key)?;
        let verification: Result<Vec<_>, String> =
            keys.verification_keys.iter().map(|pem| verification_key(pem)).collect();
        let verification = verification?;
        let published = keys.verification_keys.iter().zip(&verification);
        let keyset = Keyset::new(&keys.issuer, published.map(|(pem, (algorithm, key))| (&**pem, *algorithm, key)));
        Ok(Tokens {
            issuer: keys.issuer.clone(),
            audiences: keys.api_audiences.clone(),
            key_id: keyset.id_of(&signing, algorithm),
            keyset,
            signing,
            algorithm,
            verification,
            cache,
            clock,
        })
    }

    pub fn default_audiences(&self) -> &[String] {
        &self.audiences
    }

    /// A signed token and the second at which it expires.
    pub fn issue(&self, request: Request<'_>) -> Result<(String, i64), TokenError> {
        let now = self.clock.now().as_second();
        let expires = now + request.seconds;
        let claims = Claims {
            aud: request.audiences,
            exp: expires,
            iat: now,
            iss: self.issuer.clone(),
            jti: crate::strategy::new_uid(),
            nbf: now,
            sub: format!("system:serviceaccount:{}:{}", request.namespace, request.account.name),
            kubernetes: Bound {
                namespace: request.namespace.to_owned(),
                serviceaccount: request.account,
                pod: request.pod,
                secret: request.secret,
                node: request.node,
                warnafter: None,
            },
        };
        let header = Header { kid: self.key_id.clone(), ..Header::new(self.algorithm) };
        Ok((jsonwebtoken::encode(&header, &claims, &self.signing)?, expires))
    }

    /// Checks a token for one of `audiences`, or for this server where none are named.
    pub async fn verify(&self, token: &str, audiences: &[String]) -> Result<Verified, TokenError> {
        let claims = self.decode(token)?;
        let now = self.clock.now().as_second();
        if claims.exp <= now {
            return Err(TokenError::Expired);
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let shared: Vec<String> = claims.aud.iter().filter(|audience| wanted.contains(audience)).cloned().collect();
        if shared.is_empty() {
            return Err(TokenError::Audience(claims.aud));
        }
        if self.check_bindings(&claims.kubernetes).is_err() {
            // The cache may not have seen what the token was just bound to.
            let _ = self.cache.wait_until_current().await;
            self.check_bindings(&claims.kubernetes)?;
        }
        Ok(Verified { user: user_of(&claims), audiences: shared })
    }

    fn decode(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token)?;
        let mut last = jsonwebtoken::errors::Error::from(jsonwebtoken::errors::ErrorKind::InvalidAlgorithm);
        for (algorithm, key) in self.verification.iter().filter(|(algorithm, _)| *algorithm == header.alg) {
            let mut validation = Validation::new(*algorithm);
            validation.set_issuer(&[&self.issuer]);
            // Expiry and audience are checked by our own clock and rules.
            validation.validate_exp = false;
            validation.validate_nbf = false;
            validation.validate_aud = false;
            match jsonwebtoken::decode::<Claims>(token, key, &validation) {
                Ok(token) => return Ok(token.claims),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    fn check_bindings(&self, bound: &Bound) -> Result<(), TokenError> {
        let namespace = bound.namespace.as_str();
        self.check("serviceaccounts", namespace, &bound.serviceaccount, false)?;
        if let Some(pod) = &bound.pod {
            self.check("pods", namespace, pod, true)?;
        }
        if let Some(secret) = &bound.secret {
            self.check("secrets", namespace, secret, true)?;
        }
        Ok(())
    }

    /// The object is there, is that very one, and is not long past its deletion.
    fn check(
        &self,
        storage: &str,
        namespace: &str,
        reference: &Reference,
        may_be_ending: bool,
    ) -> Result<(), TokenError> {
        let key = format!("{namespace}/{}", reference.name);
        let gone = || TokenError::Unbound(format!("{storage} {key}"));
        let object = self.cache.shelf_at(storage).and_then(|shelf| shelf.get(&key)).ok_or_else(gone)?;
        let tree = object.tree();
        if tree.str_at(&["metadata", "uid"]) != reference.uid {
            return Err(gone());
        }
        let deleted: Option<jiff::Timestamp> =
            tree.at(&["metadata", "deletionTimestamp"]).and_then(Value::as_str).and_then(|time| time.parse().ok());
        // Upstream leaves a minute for what a pod still has to say at its end.
        let leeway = if may_be_ending { 60 } else { 0 };
        match deleted {
            Some(time) if time.as_second() + leeway < self.clock.now().as_second() => Err(gone()),
            _ => Ok(()),
        }
    }
}

fn user_of(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{}", bound.namespace)];
    let mut user = UserInfo::authenticated(&claims.sub, groups);
    user.uid = bound.serviceaccount.uid.clone();
    let mut extra = BTreeMap::new();
    let mut add = |name: &str, value: &str| {
        extra.insert(format!("authentication.kubernetes.io/{name}"), vec![value.to_owned()]);
    };
    if !claims.jti.is_empty() {
        add("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &bound.pod {
        add("pod-name", &pod.name);
        add("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        add("node-name", &node.name);
        add("node-uid", &node.uid);
    }
    user.extra = extra;
    user
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    })
}

fn signing_key(pem: &[u8]) -> Result<(Algorithm, EncodingKey), String> {
    EncodingKey::from_ec_pem(pem)
        .map(|key| (Algorithm::ES256, key))
        .or_else(|_| EncodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key)))
        .map_err(|error| format!("the signing key is neither an ECDSA P-256 nor an RSA key in PEM: {error}"))
}

fn verification_key(pem: &[u8]) -> Result<(Algorithm, DecodingKey), String> {
    DecodingKey::from_ec_pem(pem)
        .map(|key| (Algorithm::ES256, key))
        .or_else(|_| DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key)))
        .map_err(|error| format!("a verification key is neither an ECDSA P-256 nor an RSA public key in PEM: {error}"))
}
