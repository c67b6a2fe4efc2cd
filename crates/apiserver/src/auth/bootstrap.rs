//! Bootstrap tokens: what a machine joins a cluster with. `ID.SECRET` stands in the Secret `bootstrap-token-ID` of
//! kube-system (upstream `plugin/pkg/auth/authenticator/token/bootstrap/bootstrap.go`).

use std::{collections::BTreeSet, sync::Arc};

use api::Value;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::UserInfo;
use crate::{Clock, cache::Cache};

const NAMESPACE: &str = "kube-system";
const NAME_PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const USER_PREFIX: &str = "system:bootstrap:";
const GROUP: &str = "system:bootstrappers";

pub(super) struct BootstrapTokens {
    cache: Arc<Cache>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is no such bootstrap token")]
    Unknown,
    #[error("the bootstrap token's Secret is being deleted")]
    Deleted,
    #[error("the Secret is not of type {TYPE}")]
    Type,
    #[error("the Secret has another value for {0}")]
    Differs(&'static str),
    #[error("the bootstrap token has expired")]
    Expired,
    #[error("the bootstrap token is not for authentication")]
    Usage,
    #[error("{0:?} in auth-extra-groups is not a group of bootstrappers")]
    Group(String),
}

/// ID and secret of what has the form of a bootstrap token.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let is = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    (is(id, 6) && is(secret, 16)).then_some((id, secret))
}

impl BootstrapTokens {
    pub(super) fn new(cache: Arc<Cache>, clock: Arc<dyn Clock>) -> BootstrapTokens {
        BootstrapTokens { cache, clock }
    }

    /// Whose token it is; `None` where it has not the form of one.
    pub(super) async fn verify(&self, token: &str) -> Option<Result<UserInfo, Refusal>> {
        let (id, secret) = parse(token)?;
        let now = self.clock.now();
        match self.look(id, secret, now) {
            // Another server may just have stored or changed it.
            Err(_) if self.cache.wait_until_current().await.is_ok() => Some(self.look(id, secret, now)),
            found => Some(found),
        }
    }

    fn look(&self, id: &str, secret: &str, now: Timestamp) -> Result<UserInfo, Refusal> {
        let key = format!("{NAMESPACE}/{NAME_PREFIX}{id}");
        let object = self.cache.shelf_at("secrets").and_then(|shelf| shelf.get(&key)).ok_or(Refusal::Unknown)?;
        check(&object.tree(), id, secret, now)
    }
}

fn check(object: &Value, id: &str, secret: &str, now: Timestamp) -> Result<UserInfo, Refusal> {
    let data = |name: &str| {
        let bytes = STANDARD.decode(object.str_at(&["data", name])).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    if object.at(&["metadata", "deletionTimestamp"]).is_some() {
        return Err(Refusal::Deleted);
    }
    if object.str_at(&["type"]) != TYPE {
        return Err(Refusal::Type);
    }
    // Of hashes, the time that a comparison takes tells nothing.
    if Sha256::digest(data("token-secret")) != Sha256::digest(secret) {
        return Err(Refusal::Differs("token-secret"));
    }
    if data("token-id") != id {
        return Err(Refusal::Differs("token-id"));
    }
    let expiration = data("expiration");
    // A time that cannot be read has passed.
    if !expiration.is_empty() && !expiration.parse::<Timestamp>().is_ok_and(|end| now < end) {
        return Err(Refusal::Expired);
    }
    if data("usage-bootstrap-authentication") != "true" {
        return Err(Refusal::Usage);
    }
    let mut groups = BTreeSet::from([GROUP.to_owned()]);
    let extra = data("auth-extra-groups");
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        if !is_bootstrap_group(group) {
            return Err(Refusal::Group(group.to_owned()));
        }
        groups.insert(group.to_owned());
    }
    Ok(UserInfo::authenticated(format!("{USER_PREFIX}{id}"), groups))
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`
fn is_bootstrap_group(group: &str) -> bool {
    let Some(name) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let is_plain = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    name.len() <= 256
        && name.bytes().all(|byte| is_plain(byte) || matches!(byte, b':' | b'-'))
        && name.bytes().last().is_some_and(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_form() {
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for text in [
            "abcdef.0123456789abcde",
            "abcde.0123456789abcdef",
            "abcdeF.0123456789abcdef",
            "abcdef.0123456789abcdef.",
            "",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn secrets_are_judged() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let base = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2026-01-01T00:00:01Z"),
            ("auth-extra-groups", "system:bootstrappers:worker,system:bootstrappers:a:b-c"),
        ];
        let secret = |changes: &[(&str, &str)]| {
            let mut object = Value::object();
            object.set(&["type"], TYPE);
            for (name, value) in base.iter().chain(changes) {
                object.set(&["data", name], STANDARD.encode(value));
            }
            object
        };
        let judge = |object: &Value| check(object, "abcdef", "0123456789abcdef", now);
        let user = judge(&secret(&[])).expect("good");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(
            user.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:a:b-c",
                "system:bootstrappers:worker",
                "system:authenticated"
            ]
        );
        for (change, refusal) in [
            (("token-id", "abcdeg"), Refusal::Differs("token-id")),
            (("token-secret", "0123456789abcdee"), Refusal::Differs("token-secret")),
            (("expiration", "2026-01-01T00:00:00Z"), Refusal::Expired),
            (("expiration", "tomorrow"), Refusal::Expired),
            (("usage-bootstrap-authentication", "yes"), Refusal::Usage),
            (("auth-extra-groups", "system:masters"), Refusal::Group("system:masters".into())),
            (("auth-extra-groups", "system:bootstrappers:"), Refusal::Group("system:bootstrappers:".into())),
        ] {
            assert_eq!(judge(&secret(&[change])), Err(refusal), "{change:?}");
        }
        assert!(judge(&secret(&[("expiration", ""), ("auth-extra-groups", "")])).is_ok());
        let mut other = secret(&[]);
        other.set(&["type"], "Opaque");
        assert_eq!(judge(&other), Err(Refusal::Type));
        let mut ending = secret(&[]);
        ending.set(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(judge(&ending), Err(Refusal::Deleted));
    }
}
