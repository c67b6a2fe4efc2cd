//! What becomes of the kinds of certificates.k8s.io when they are written (`pkg/registry/certificates/*/strategy.go`).

use api::{Resource, Value};
use jiff::Timestamp;

use super::{NameRule, Strategy};

pub struct SigningRequests;

impl Strategy for SigningRequests {
    fn fields(&self) -> &'static [&'static str] {
        &["spec.signerName"]
    }

    /// `ValidateCertificateRequestName`: kubelets name theirs by a hash in base64.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }

    fn prepare_update(&self, object: &mut Value, old: &Value) {
        if let Some(spec) = old.get("spec") {
            object.set(&["spec"], spec.clone());
        }
    }

    fn prepare_status(&self, object: &mut Value, old: &Value, now: Timestamp) {
        for kind in ["Approved", "Denied"] {
            keep_decisions(object, old, kind);
        }
        date_conditions(object, old, now);
    }

    fn prepare_part(&self, object: &mut Value, old: &Value, now: Timestamp) {
        date_conditions(object, old, now);
    }
}

const CONDITIONS: [&str; 2] = ["status", "conditions"];

fn conditions(request: &Value) -> &[Value] {
    request.at(&CONDITIONS).and_then(Value::as_array).unwrap_or_default()
}

fn conditions_mut(request: &mut Value) -> impl Iterator<Item = &mut Value> {
    request.at_mut(&CONDITIONS).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Decisions change through `approval` alone: as many as there were stay what they were (`preserveConditionInstances`).
fn keep_decisions(object: &mut Value, old: &Value, kind: &str) {
    let is = |condition: &&Value| condition.str_at(&["type"]) == kind;
    let before: Vec<&Value> = conditions(old).iter().filter(is).collect();
    if conditions(object).iter().filter(is).count() != before.len() {
        return;
    }
    let present = conditions_mut(object).filter(|condition| condition.str_at(&["type"]) == kind);
    for (condition, was) in present.zip(before) {
        *condition = was.clone();
    }
}

/// `populateConditionTimestamps`: a condition that does not say since when it holds does so since it was first seen.
fn date_conditions(object: &mut Value, old: &Value, now: Timestamp) {
    let is_dated = |condition: &Value, name: &str| condition.get(name).is_some_and(|time| !time.is_null());
    let now = api::time::format(now);
    for condition in conditions_mut(object) {
        if !is_dated(condition, "lastUpdateTime") {
            condition.set(&["lastUpdateTime"], now.as_str());
        }
        if is_dated(condition, "lastTransitionTime") {
            continue;
        }
        let is_same = |was: &&Value| ["type", "status"].iter().all(|name| was.get(name) == condition.get(name));
        let known = conditions(old).iter().filter(is_same).find(|was| is_dated(was, "lastTransitionTime"));
        let since = known.map_or(now.as_str(), |was| was.str_at(&["lastTransitionTime"])).to_owned();
        condition.set(&["lastTransitionTime"], since);
    }
}

/// Bundles of a signer are named after it, with colons: validation looks at their names.
pub struct TrustBundles;

impl Strategy for TrustBundles {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }
}
