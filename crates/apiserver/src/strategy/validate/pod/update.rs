//! How a pod may change (`pkg/apis/core/validation`: ValidatePodUpdate).

use std::collections::HashSet;

use api::Value;

use super::{annotations, container};
use crate::strategy::validate::at::At;

const MUTABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
`spec.tolerations` (only additions to existing tolerations),\
`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks a change through a subresource that has a part of the pod: ephemeral containers come and stay
/// (ValidatePodEphemeralContainersUpdate).
pub(in crate::strategy::validate) fn part(at: &At, old: &At) {
    let (spec, before) = (at.get("spec"), old.get("spec"));
    let (list, was) = (spec.get("ephemeralContainers"), before.get("ephemeralContainers"));
    if list.same(&was) {
        return;
    }
    let metadata = old.get("metadata");
    if metadata.get("annotations").key("kubernetes.io/config.mirror").is_set() {
        return at.forbidden("static pods do not support ephemeral containers");
    }
    let now = list.by("name");
    for container in was.items() {
        let name = container.get("name").text();
        match now.get(name) {
            None => list.forbidden(format!("existing ephemeral containers {name:?} may not be removed\n")),
            Some(new) if !new.same(&container) => {
                let changed = changed_members(new.value(), container.value()).join(", ");
                let what = format!("existing ephemeral containers {name:?} may not be changed");
                list.forbidden(format!("{what}\nchanged: {changed}"));
            }
            Some(_) => {}
        }
    }
}

/// Checks a change of a pod; the pod as a whole is checked elsewhere.
pub(in crate::strategy::validate) fn update(at: &At, old: &At) {
    annotations::update(&at.get("metadata").get("annotations"), &old.get("metadata").get("annotations"));
    let (spec, before) = (at.get("spec"), old.get("spec"));
    if spec.same(&before) {
        return;
    }
    for list in ["containers", "initContainers"] {
        let containers = spec.get(list);
        if containers.len() != before.get(list).len() {
            return containers.forbidden("pod updates may not add or remove containers");
        }
        for container in containers.items() {
            container.get("image").need();
            container::image_is_trimmed(&container);
        }
    }
    if !deadline(&spec.get("activeDeadlineSeconds"), &before.get("activeDeadlineSeconds")) {
        return;
    }
    tolerations(&spec.get("tolerations"), &before.get("tolerations"));
    let gates = before.get("schedulingGates");
    let were = gates.by("name");
    for gate in spec.get("schedulingGates").items() {
        let name = gate.get("name");
        if !were.contains_key(name.text()) {
            name.forbidden(format!("only deletion is allowed, but found new scheduling gate '{}'", name.text()));
        }
    }
    let mut rest = spec.value().clone();
    put_back(&mut rest, before.value(), !gates.is_empty());
    if !gates.is_empty() {
        node_selector(&spec.get("nodeSelector"), &before.get("nodeSelector"));
        node_affinity(&spec.get("affinity").get("nodeAffinity"), &before.get("affinity").get("nodeAffinity"));
    }
    if rest != *before.value() {
        let changed = changed_members(&rest, before.value()).join(", ");
        spec.forbidden(format!("pod updates may not change fields other than {MUTABLE}\nchanged: {changed}"));
    }
}

/// A deadline may come, and come nearer.
fn deadline(at: &At, old: &At) -> bool {
    match (at.int(), old.int()) {
        (Some(new), _) if !(0..=i32::MAX.into()).contains(&new) => at.in_range(0, i32::MAX.into()),
        (Some(new), Some(old)) if new > old => at.invalid("must be less than or equal to previous value"),
        (None, Some(_)) => {
            at.invalid("must not update from a positive integer to nil value");
            return true;
        }
        _ => return true,
    }
    false
}

/// Tolerations may be added, or last for another time (`validateOnlyAddedTolerations`).
fn tolerations(at: &At, old: &At) {
    fn what(toleration: &Value) -> [&str; 4] {
        ["key", "operator", "value", "effect"].map(|name| toleration.str_at(&[name]))
    }
    let now: HashSet<_> = at.items().map(|toleration| what(toleration.value())).collect();
    if old.items().any(|before| !now.contains(&what(before.value()))) {
        at.forbidden("existing toleration can not be modified except its tolerationSeconds");
    }
}

/// Puts the old values of the fields that may change into `spec`, so that what still differs may not.
fn put_back(spec: &mut Value, old: &Value, gated: bool) {
    for list in ["containers", "initContainers"] {
        let before = old.get(list).and_then(Value::as_array).unwrap_or_default();
        for (container, before) in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().zip(before) {
            restore(container, before, "image");
        }
    }
    for name in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        restore(spec, old, name);
    }
    let seconds = |value: &Value| value.get("terminationGracePeriodSeconds").and_then(Value::as_i64);
    if seconds(old).is_some_and(|seconds| seconds < 0) && seconds(spec) == Some(1) {
        restore(spec, old, "terminationGracePeriodSeconds");
    }
    if gated {
        restore(spec, old, "nodeSelector");
        match old.at(&["affinity", "nodeAffinity"]) {
            Some(affinity) => spec.set(&["affinity", "nodeAffinity"], affinity.clone()),
            None => spec.take(&["affinity", "nodeAffinity"]).is_some(),
        };
        if spec.get("affinity").and_then(Value::as_object).is_some_and(api::Map::is_empty)
            && old.get("affinity").is_none()
        {
            spec.take(&["affinity"]);
        }
    }
}

fn restore(value: &mut Value, old: &Value, name: &str) {
    match old.get(name) {
        Some(old) => value.set(&[name], old.clone()),
        None => value.take(&[name]).is_some(),
    };
}

fn changed_members<'a>(new: &'a Value, old: &'a Value) -> Vec<&'a str> {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return vec!["spec"] };
    let gone = old.keys().filter(|name| !new.contains_key(name));
    new.iter().filter(|(name, value)| old.get(name) != Some(value)).map(|(name, _)| name).chain(gone).collect()
}

/// A gated pod may be confined more narrowly.
fn node_selector(at: &At, old: &At) {
    if old.entries().any(|(key, value)| !at.key(key).same(&value)) {
        at.invalid("only additions to spec.nodeSelector are allowed (no mutations or deletions)");
    }
}

fn node_affinity(at: &At, old: &At) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let (now, was) = (at.get(required), old.get(required));
    let (now, was) = (now.get("nodeSelectorTerms"), was.get("nodeSelectorTerms"));
    if was.is_empty() {
        return;
    }
    if now.len() != was.len() {
        return now.invalid("no additions/deletions to non-empty NodeSelectorTerms list are allowed");
    }
    let grows = |new: &At, old: &At| {
        let items =
            |at: &At<'_, '_>, name: &str| at.value().get(name).and_then(Value::as_array).unwrap_or_default().to_vec();
        let both = ["matchExpressions", "matchFields"];
        let was_empty = both.iter().all(|name| items(old, name).is_empty());
        let is_empty = both.iter().all(|name| items(new, name).is_empty());
        (!was_empty || is_empty) && both.iter().all(|name| items(new, name).starts_with(&items(old, name)))
    };
    for (new, _) in now.items().zip(was.items()).filter(|(new, old)| !grows(new, old)) {
        new.invalid("only additions are allowed (no mutations or deletions)");
    }
}
