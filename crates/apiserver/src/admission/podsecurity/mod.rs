//! PodSecurity: pods keep to the Pod Security Standard that their namespace's labels name; workloads whose pods would not
//! are warned of (upstream `plugin/pkg/admission/security/podsecurity` and `pod-security-admission/admission`).

mod baseline;
mod checks;
mod policy;
mod restricted;

use std::collections::{BTreeMap, HashSet};

use api::{Status, Value};
use async_trait::async_trait;

use self::{
    checks::{Pod, details, evaluate, reasons},
    policy::{Level, LevelVersion, Policy},
};
use super::{Operation, Plugin, Review};

pub struct PodSecurity;

/// Pods of a namespace that are looked at when its level rises.
const PODS_MAX: usize = 3000;

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<(), Status> {
        if !matches!(review.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        match (&*review.resource.group, &*review.resource.plural, review.subresource) {
            ("", "namespaces", "") => check_namespace(review, object),
            ("", "pods", "status" | "binding" | "eviction") => Ok(()),
            ("", "pods", _) => check_pod(review, object).await,
            (group, plural, "") => match template(group, plural) {
                Some(path) => warn_of_template(review, object.at(path)).await,
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Where a workload keeps what it makes pods from.
fn template(group: &str, plural: &str) -> Option<&'static [&'static str]> {
    match (group, plural) {
        ("", "podtemplates") => Some(&["template"]),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some(&["spec", "template"]),
        ("batch", "cronjobs") => Some(&["spec", "jobTemplate", "spec", "template"]),
        _ => None,
    }
}

/// The policy of the write's namespace. Labels that cannot be read were there before they were checked: they count as the
/// policy says.
async fn policy_of(review: &Review<'_>) -> Result<Option<Policy>, Status> {
    let namespace = review.find("namespaces", review.namespace).await?;
    Ok(namespace.map(|namespace| Policy::of(|label| namespace.label(label)).0))
}

async fn check_pod(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let policy = policy_of(review).await?;
    let policy =
        policy.ok_or_else(|| Status::internal(format!("failed to lookup namespace \"{}\"", review.namespace)))?;
    if policy.enforce.level == Level::Privileged && policy.warn.level == Level::Privileged {
        return Ok(());
    }
    if review.operation == Operation::Update && review.old.is_some_and(|old| !is_significant(object, old)) {
        return Ok(());
    }
    let Some(pod) = pod(object) else { return Ok(()) };
    let findings = evaluate(policy.enforce, pod);
    if !findings.is_empty() {
        return Err(review.forbidden(&format!("violates PodSecurity \"{}\": {}", policy.enforce, details(&findings))));
    }
    warn(review, policy.warn, pod);
    Ok(())
}

async fn warn_of_template(review: &Review<'_>, template: Option<&Value>) -> Result<(), Status> {
    let Some(pod) = template.and_then(pod) else { return Ok(()) };
    let Some(policy) = policy_of(review).await? else { return Ok(()) };
    warn(review, policy.warn, pod);
    Ok(())
}

fn warn(review: &Review<'_>, policy: LevelVersion, pod: Pod<'_>) {
    let findings = evaluate(policy, pod);
    if !findings.is_empty() {
        review.warn(format!("would violate PodSecurity \"{policy}\": {}", details(&findings)));
    }
}

fn pod(object: &Value) -> Option<Pod<'_>> {
    static NONE: Value = Value::Null;
    Some(Pod { metadata: object.get("metadata").unwrap_or(&NONE), spec: object.get("spec")? })
}

/// Whether anything changed that the checks look at: containers that came or went, and images (isSignificantPodUpdate).
fn is_significant(pod: &Value, old: &Value) -> bool {
    fn list<'a>(pod: &'a Value, name: &str) -> &'a [Value] {
        pod.at(&["spec", name]).and_then(Value::as_array).unwrap_or_default()
    }
    let same_image = |(new, old): (&Value, &Value)| new.get("image") == old.get("image");
    let are_same = |name: &str| {
        let (new, old) = (list(pod, name), list(old, name));
        new.len() == old.len() && new.iter().zip(old).all(same_image)
    };
    let before = list(old, "ephemeralContainers");
    let was_there = |new: &Value| {
        let same = before.iter().find(|old| old.get("name") == new.get("name"));
        same.is_some_and(|old| same_image((new, old)))
    };
    !(are_same("containers") && are_same("initContainers") && list(pod, "ephemeralContainers").iter().all(was_there))
}

fn check_namespace(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let policy = |namespace: &Value| {
        let labels = namespace.at(&["metadata", "labels"]);
        let (policy, errors) = Policy::of(|name| labels.and_then(|labels| labels.get(name)).and_then(Value::as_str));
        (policy.enforce, errors)
    };
    let (new, errors) = policy(object);
    let old = review.old.filter(|_| review.operation == Operation::Update).map(policy);
    // Labels that were wrong before may stay so.
    if !errors.is_empty() && old.as_ref().is_none_or(|(_, before)| *before != errors) {
        return Err(Status::invalid("", &review.resource.kind.kind, review.name, errors));
    }
    let Some((old, _)) = old else { return Ok(()) };
    let is_relaxed = new.version == old.version && new.level <= old.level;
    if new.level == Level::Privileged || is_relaxed {
        return Ok(());
    }
    if let Some(shelf) = review.server.cache.shelf_at("pods") {
        let snapshot = shelf.snapshot();
        let pods = snapshot.under(&format!("{}/", review.name)).map(|(_, pod)| pod.tree()).collect();
        warnings_of_namespace(review.name, new, pods).into_iter().for_each(|warning| review.warn(warning));
    }
    Ok(())
}

/// Which of a namespace's pods are beyond its new level (EvaluatePodsInNamespace); `pods` are in the order of their names.
fn warnings_of_namespace(namespace: &str, policy: LevelVersion, pods: Vec<Value>) -> Vec<String> {
    let total = pods.len();
    // One pod of each controller tells about all: these come first, should there be too many.
    let mut controllers = HashSet::new();
    let (first, rest): (Vec<Value>, Vec<Value>) = pods.into_iter().partition(|pod| {
        let owners = pod.at(&["metadata", "ownerReferences"]).and_then(Value::as_array).unwrap_or_default();
        let controller = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
        controller.is_none_or(|controller| controllers.insert(controller.str_at(&["uid"]).to_owned()))
    });
    let mut beyond: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for object in first.iter().chain(&rest).take(PODS_MAX) {
        let findings = pod(object).map(|pod| evaluate(policy, pod)).unwrap_or_default();
        if !findings.is_empty() {
            beyond.entry(reasons(&findings)).or_default().push(object.str_at(&["metadata", "name"]).to_owned());
        }
    }
    let mut warnings = Vec::new();
    if total > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {total} existing pods"
        ));
    }
    if !beyond.is_empty() {
        warnings.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{policy}\""
        ));
    }
    let mut lines: Vec<String> = beyond
        .into_iter()
        .map(|(why, names)| {
            let first = names.iter().min().map(String::as_str).unwrap_or_default();
            match names.len() {
                1 => format!("{first}: {why}"),
                2 => format!("{first} (and 1 other pod): {why}"),
                count => format!("{first} (and {} other pods): {why}", count - 1),
            }
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

#[cfg(test)]
mod tests;
