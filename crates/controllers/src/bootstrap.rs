//! Bootstrap tokens: the ConfigMap `cluster-info`, which anybody may read, is signed with each of them, so that who has one
//! can tell that it is true; and tokens whose time is over are removed (upstream pkg/controller/bootstrap).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use client::{
    Delta, Informer, Kind, ListParams, ObjectKey,
    kinds::core::v1::{ConfigMap, Secret},
};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{owners, until},
};

const SECRET_NAMESPACE: &str = "kube-system";
const SECRET_PREFIX: &str = "bootstrap-token-";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const INFO_NAMESPACE: &str = "kube-public";
const INFO_NAME: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE_PREFIX: &str = "jws-kubeconfig-";

fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(SECRET_TYPE) && secret.namespace() == SECRET_NAMESPACE
}

fn data<'s>(secret: &'s Secret, name: &str) -> &'s str {
    let bytes = secret.data.as_ref().and_then(|data| data.get(name)).map_or(&[][..], |bytes| &bytes.0);
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// How long a token is good.
#[derive(Debug, PartialEq)]
enum Life {
    ForEver,
    For(Duration),
    Over,
}

/// A time that cannot be read has passed (`GetExpiration`).
fn life(secret: &Secret, now: Timestamp) -> Life {
    let expiration = data(secret, "expiration");
    if expiration.is_empty() {
        return Life::ForEver;
    }
    let left = expiration.parse::<Timestamp>().ok().and_then(|end| until(end, now));
    left.map_or(Life::Over, Life::For)
}

/// ID and secret of a token that may sign (`validateSecretForSigning`).
fn signing(secret: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let (id, key) = (data(secret, "token-id"), data(secret, "token-secret"));
    let is_named = secret.name().strip_prefix(SECRET_PREFIX) == Some(id) && id.len() == 6;
    let is_good = is_named && !key.is_empty() && life(secret, now) != Life::Over;
    (is_good && data(secret, "usage-bootstrap-signing") == "true").then_some((id, key))
}

/// A JWS of `content` without the content (RFC 7515, appendix F).
fn detached_signature(content: &str, id: &str, key: &str) -> Result<String, jsonwebtoken::errors::Error> {
    let header = serde_json::json!({"alg": "HS256", "kid": id}).to_string();
    let header = URL_SAFE_NO_PAD.encode(header);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let signature = crypto::sign(message.as_bytes(), &EncodingKey::from_secret(key.as_bytes()), Algorithm::HS256)?;
    Ok(format!("{header}..{signature}"))
}

/// Signs the kubeconfig in `info` with every token that may, and takes away the signatures of all others.
pub fn plan_signatures(info: &ConfigMap, secrets: &[Arc<Secret>], now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let present = info.data.clone().unwrap_or_default();
    let Some(content) = present.get(KUBECONFIG) else { return plan };
    let mut wanted: BTreeMap<String, String> = present.clone();
    wanted.retain(|name, _| !name.starts_with(SIGNATURE_PREFIX));
    for secret in secrets.iter().filter(|secret| is_token(secret)) {
        let Some((id, key)) = signing(secret, now) else { continue };
        if let Life::For(left) = life(secret, now) {
            plan.requeue_after(left);
        }
        match detached_signature(content, id, key) {
            Ok(signature) => {
                wanted.insert(format!("{SIGNATURE_PREFIX}{id}"), signature);
            }
            Err(error) => tracing::error!(%error, secret = secret.name(), "cluster-info cannot be signed"),
        }
    }
    if wanted != present {
        let mut signed = info.clone();
        signed.data = Some(wanted);
        plan.update(&signed).ignore_not_found().ignore_conflict();
    }
    plan
}

/// Removes a token whose time is over.
pub fn plan_cleaning(secret: &Secret, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    match life(secret, now) {
        Life::ForEver => {}
        Life::For(left) => plan.requeue_after(left),
        Life::Over => {
            plan.delete(secret).ignore_conflict();
        }
    }
    plan
}

struct Signer {
    infos: Informer<ConfigMap>,
    secrets: Informer<Secret>,
}

impl Controller for Signer {
    fn name(&self) -> &'static str {
        "bootstrap-signer-controller"
    }

    fn plan(&self, _: &ObjectKey, context: &Context) -> Plan {
        let info = self.infos.get(INFO_NAMESPACE, INFO_NAME);
        info.map(|info| plan_signatures(&info, &self.secrets.list(), context.now)).unwrap_or_default()
    }
}

struct Cleaner(Informer<Secret>);

impl Controller for Cleaner {
    fn name(&self) -> &'static str {
        "token-cleaner-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        let secret = self.0.get(&key.namespace, &key.name).filter(|secret| is_token(secret));
        secret.map(|secret| plan_cleaning(&secret, context.now)).unwrap_or_default()
    }
}

/// Only these: no other Secret is either controller's business.
fn tokens() -> ListParams {
    ListParams::fields(format!("type={SECRET_TYPE}"))
}

pub fn register_signer(setup: &mut Setup) {
    let infos = setup.informer_with::<ConfigMap>(ListParams::fields(format!("metadata.name={INFO_NAME}")));
    let secrets = setup.informer_with::<Secret>(tokens());
    let queue = setup.queue("bootstrap-signer-controller");
    let to = queue.clone();
    infos.on_event(move |delta| {
        if owners::newest(delta).namespace() == INFO_NAMESPACE && !matches!(delta, Delta::Deleted(_)) {
            to.add(ObjectKey::default());
        }
    });
    let to = queue.clone();
    secrets.on_event(move |_| to.add(ObjectKey::default()));
    setup.run(Signer { infos, secrets }, queue, 1);
}

pub fn register_cleaner(setup: &mut Setup) {
    let secrets = setup.informer_with::<Secret>(tokens());
    let queue = setup.queue("token-cleaner-controller");
    owners::enqueue_self(&secrets, &queue);
    setup.run(Cleaner(secrets), queue, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("time")
    }

    fn secret(id: &str, changes: serde_json::Value) -> Arc<Secret> {
        let mut text = serde_json::json!({
            "token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true",
            "expiration": "2026-01-01T01:00:00Z",
        });
        for (name, value) in changes.as_object().expect("changes") {
            text[name] = value.clone();
        }
        let data = text.as_object().expect("data").iter().map(|(name, value)| {
            let bytes = value.as_str().unwrap_or_default().as_bytes().to_vec();
            (name.clone(), client::k8s_openapi::ByteString(bytes))
        });
        let mut secret: Secret = serde_json::from_value(serde_json::json!({
            "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system", "uid": id},
            "type": SECRET_TYPE,
        }))
        .expect("a secret");
        secret.data = Some(data.collect());
        Arc::new(secret)
    }

    #[test]
    fn signatures_are_upstreams() {
        let content = "Hello from the other side. I must have called a thousand times.";
        let signature = detached_signature(content, "joshua", "my voice is my passcode").expect("a signature");
        // With any HMAC-SHA256 over base64url(header).base64url(content).
        assert_eq!(signature, "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8");
    }

    #[test]
    fn cluster_info_is_signed_by_the_tokens_that_may() {
        let now = at("2026-01-01T00:00:00Z");
        let info: ConfigMap = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "cluster-info", "namespace": "kube-public"},
            "data": {"kubeconfig": "k", "jws-kubeconfig-gone00": "old", "other": "kept"},
        }))
        .expect("a map");
        let none = serde_json::json!({});
        let secrets = [
            secret("abcdef", none.clone()),
            secret("authen", serde_json::json!({"usage-bootstrap-signing": "false"})),
            secret("expire", serde_json::json!({"expiration": "2026-01-01T00:00:00Z"})),
            secret("misnam", serde_json::json!({"token-id": "others"})),
        ];
        let plan = plan_signatures(&info, &secrets, now);
        assert_eq!((plan.writes.len(), plan.requeue_after), (1, Some(Duration::from_secs(3600))));
        let signed: ConfigMap = serde_json::from_slice(&plan.writes[0].body).expect("a map");
        let names: Vec<String> = signed.data.clone().unwrap_or_default().into_keys().collect();
        assert_eq!(names, ["jws-kubeconfig-abcdef", "kubeconfig", "other"]);
        assert!(plan_signatures(&signed, &secrets, now).is_empty(), "nothing to do twice");
        let later = plan_signatures(&signed, &secrets, at("2026-01-01T01:00:00Z"));
        let signed: ConfigMap = serde_json::from_slice(&later.writes[0].body).expect("a map");
        assert_eq!(signed.data.map(|data| data.len()), Some(2), "its time is over");
    }

    #[test]
    fn tokens_go_when_their_time_is_over() {
        let token = secret("abcdef", serde_json::json!({}));
        let plan = plan_cleaning(&token, at("2026-01-01T00:59:00Z"));
        assert_eq!((plan.writes.len(), plan.requeue_after), (0, Some(Duration::from_secs(60))));
        assert!(
            plan_cleaning(&token, at("2026-01-01T01:00:00Z")).to_string().starts_with("delete Secret kube-system/")
        );
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!(plan_cleaning(&secret("abcdef", serde_json::json!({"expiration": "soon"})), now).writes.len(), 1);
        let eternal = plan_cleaning(&secret("abcdef", serde_json::json!({"expiration": ""})), now);
        assert!(eternal.is_empty() && eternal.requeue_after.is_none());
    }
}
