//! Who may ask the kubelet what (upstream `pkg/kubelet/server/auth.go` and the delegating authenticator and authorizer):
//! a client certificate or a bearer token (TokenReview) says who, a SubjectAccessReview on `nodes/SUBRESOURCE` says whether.
//! There is no anonymous access. Answers are kept as long as upstream keeps them.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    time::Duration,
};

use async_trait::async_trait;
use client::{
    Client,
    kinds::{
        authentication::v1::TokenReview,
        authorization::v1::{ResourceAttributes, SubjectAccessReview},
    },
};
use http::{Extensions, HeaderMap, Method};
use net::PeerCertificate;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// Upstream's defaults of `authentication.webhook.cacheTTL` and `authorization.webhook.cache*TTL`.
const TOKEN_TTL: Duration = Duration::from_secs(120);
const ALLOWED_TTL: Duration = Duration::from_secs(300);
const DENIED_TTL: Duration = Duration::from_secs(30);
const CACHE_ENTRIES_MAX: usize = 4096;

const AUTHENTICATED: &str = "system:authenticated";

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A request's attributes; a request may have several, and one that is allowed is enough.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// API verb; empty for a method that has none.
    pub verb: &'static str,
    pub subresource: &'static str,
}

/// The subresources of `nodes` a path stands for (`GetRequestAttributes`, with KubeletFineGrainedAuthz, which is on).
pub fn attributes(method: &Method, path: &str) -> Vec<Attributes> {
    let verb = match method.as_str() {
        "POST" => "create",
        "GET" => "get",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "",
    };
    let within = |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let fine = [("/pods", "pods"), ("/healthz", "healthz"), ("/configz", "configz"), ("/runningpods", "pods")];
    let own = [
        ("/stats", "stats"),
        ("/metrics", "metrics"),
        ("/logs", "log"),
        ("/checkpoint", "checkpoint"),
        ("/statusz", "statusz"),
        ("/flagz", "configz"),
    ];
    let found = |list: &[(&str, &'static str)]| list.iter().find(|(base, _)| within(base)).map(|(_, name)| *name);
    let last = found(&own).unwrap_or("proxy");
    found(&fine).into_iter().chain([last]).map(|subresource| Attributes { verb, subresource }).collect()
}

/// Where the kubelet has tokens and access reviewed: the API server, or a table in a test.
#[async_trait]
pub trait Reviewer: Send + Sync + 'static {
    /// `None`: the token is not good.
    async fn review_token(&self, token: &str) -> client::Result<Option<User>>;

    async fn review_access(&self, user: &User, node: &str, attributes: &Attributes) -> client::Result<bool>;
}

#[async_trait]
impl Reviewer for Client {
    async fn review_token(&self, token: &str) -> client::Result<Option<User>> {
        let mut review = TokenReview::default();
        review.spec.token = token.to_owned();
        let answer = self.all::<TokenReview>().create(&review).await?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        Ok(user.map(|user| User {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
            groups: user.groups.unwrap_or_default(),
            extra: user.extra.unwrap_or_default(),
        }))
    }

    async fn review_access(&self, user: &User, node: &str, attributes: &Attributes) -> client::Result<bool> {
        let mut review = SubjectAccessReview::default();
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        review.spec.user = text(&user.name);
        review.spec.uid = text(&user.uid);
        review.spec.groups = Some(user.groups.clone());
        review.spec.extra = (!user.extra.is_empty()).then(|| user.extra.clone());
        review.spec.resource_attributes = Some(ResourceAttributes {
            verb: text(attributes.verb),
            version: text("v1"),
            resource: text("nodes"),
            subresource: text(attributes.subresource),
            name: text(node),
            ..ResourceAttributes::default()
        });
        let answer = self.all::<SubjectAccessReview>().create(&review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

/// What a refused request is answered with, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("Unauthorized")]
    Unauthenticated,
    #[error("Forbidden (user={user}, verb={verb}, resource=nodes, subresource(s)=[{}])\n", subresources.join(" "))]
    Forbidden { user: String, verb: &'static str, subresources: Vec<&'static str> },
    #[error("Authorization error (user={user}, verb={verb}, resource=nodes, subresource={subresource})")]
    Failed { user: String, verb: &'static str, subresource: &'static str, source: client::Error },
}

pub struct Authority {
    reviewer: Box<dyn Reviewer>,
    node: String,
    tokens: Cache<[u8; 32], Option<User>>,
    access: Cache<(User, Attributes), bool>,
}

impl Authority {
    pub fn new(reviewer: impl Reviewer, node: &str) -> Authority {
        let (tokens, access) = (Cache::default(), Cache::default());
        Authority { reviewer: Box::new(reviewer), node: node.to_owned(), tokens, access }
    }

    /// Lets the request pass as this user, or says why not.
    pub async fn admit(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<User, Refusal> {
        let user = self.authenticate(headers, extensions).await.ok_or(Refusal::Unauthenticated)?;
        let attributes = attributes(method, path);
        for attributes in &attributes {
            match self.is_allowed(&user, attributes).await {
                Ok(true) => return Ok(user),
                Ok(false) => {}
                Err(source) => {
                    let (verb, subresource) = (attributes.verb, attributes.subresource);
                    return Err(Refusal::Failed { user: user.name, verb, subresource, source });
                }
            }
        }
        let verb = attributes.first().map_or("", |first| first.verb);
        let subresources = attributes.iter().map(|attributes| attributes.subresource).collect();
        Err(Refusal::Forbidden { user: user.name, verb, subresources })
    }

    /// The verified certificate first, then the token, as upstream orders them.
    async fn authenticate(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<User> {
        let certificate = extensions.get::<PeerCertificate>().filter(|peer| !peer.common_name.is_empty());
        let mut user = match certificate {
            Some(peer) => {
                User { name: peer.common_name.clone(), groups: peer.organizations.clone(), ..User::default() }
            }
            None => self.by_token(net::bearer(headers)?).await?,
        };
        if !user.groups.iter().any(|group| group == AUTHENTICATED) {
            user.groups.push(AUTHENTICATED.to_owned());
        }
        Some(user)
    }

    async fn by_token(&self, token: &str) -> Option<User> {
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.tokens.get(&key) {
            return known;
        }
        match self.reviewer.review_token(token).await {
            Ok(user) => {
                self.tokens.put(key, user.clone(), TOKEN_TTL);
                user
            }
            Err(error) => {
                tracing::error!(%error, "unable to authenticate the request due to an error");
                None
            }
        }
    }

    async fn is_allowed(&self, user: &User, attributes: &Attributes) -> client::Result<bool> {
        let key = (user.clone(), attributes.clone());
        if let Some(known) = self.access.get(&key) {
            return Ok(known);
        }
        let allowed = self.reviewer.review_access(user, &self.node, attributes).await?;
        self.access.put(key, allowed, if allowed { ALLOWED_TTL } else { DENIED_TTL });
        Ok(allowed)
    }
}

/// Answers with a time to live; bounded, so that made-up tokens cannot fill the memory.
struct Cache<K, V> {
    entries: Mutex<HashMap<K, (V, Instant)>>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Cache { entries: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock();
        entries.get(key).filter(|(_, until)| Instant::now() < *until).map(|(value, _)| value.clone())
    }

    fn put(&self, key: K, value: V, ttl: Duration) {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        if entries.len() >= CACHE_ENTRIES_MAX {
            entries.retain(|_, (_, until)| now < *until);
        }
        if entries.len() >= CACHE_ENTRIES_MAX {
            entries.clear();
        }
        entries.insert(key, (value, now + ttl));
    }
}
