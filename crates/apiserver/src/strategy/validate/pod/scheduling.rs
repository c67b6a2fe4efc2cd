//! What a pod says about where it runs: affinity, tolerations, topology spread (`pkg/apis/core/validation`).

use std::collections::{HashMap, HashSet};

use api::names;

use crate::strategy::validate::{at::At, common};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `validateAffinity`.
pub(super) fn affinity(at: &At) {
    let nodes = at.get("nodeAffinity");
    let required = nodes.get(REQUIRED);
    if required.is_set() {
        common::node_selector(&required);
    }
    for term in nodes.get(PREFERRED).items() {
        weight(&term);
        common::node_selector_term(&term.get("preference"), false);
    }
    for name in ["podAffinity", "podAntiAffinity"] {
        let pods = at.get(name);
        pods.get(REQUIRED).items().for_each(|term| pod_term(&term));
        for term in pods.get(PREFERRED).items() {
            weight(&term);
            pod_term(&term.get("podAffinityTerm"));
        }
    }
}

fn weight(term: &At) {
    let weight = term.get("weight");
    if !(1..=100).contains(&weight.int().unwrap_or(0)) {
        weight.invalid_value(weight.int().unwrap_or(0), "must be in the range 1-100");
    }
}

fn pod_term(term: &At) {
    common::label_selector(&term.get("labelSelector"));
    common::label_selector(&term.get("namespaceSelector"));
    for namespace in term.get("namespaces").texts() {
        term.get("namespace").problems(namespace, names::dns1123_label);
    }
    label_keys(term);
    let key = term.get("topologyKey");
    key.need_because("can not be empty");
    key.named(names::qualified_name);
}

/// `ValidateMatchLabelKeysAndMismatchLabelKeys`.
fn label_keys(at: &At) {
    let selector = at.get("labelSelector");
    for name in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = at.get(name);
        if !keys.is_empty() && !selector.is_set() {
            keys.forbidden("must not be specified when labelSelector is not set");
        } else {
            keys.items().for_each(|key| key.named(names::qualified_name));
        }
    }
    // The keys that the API server itself merged into the selector may stand there once.
    let mut seen: HashSet<&str> = selector.get("matchLabels").entries().map(|(key, _)| key).collect();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (index, key) in at.get("matchLabelKeys").texts().enumerate() {
        places.entry(key).or_insert(index);
    }
    let expressions = selector.get("matchExpressions");
    for key in expressions.items().map(|expression| expression.value().str_at(&["key"])) {
        let is_new = seen.insert(key);
        if let Some(index) = places.get(key).filter(|_| !is_new) {
            at.index(*index).invalid_value(key, "exists in both matchLabelKeys and labelSelector");
        }
    }
    let mismatched: HashSet<&str> = at.get("mismatchLabelKeys").texts().collect();
    for key in at.get("matchLabelKeys").items().filter(|key| mismatched.contains(key.text())) {
        key.invalid("exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

/// `validateTopologySpreadConstraints`.
pub(super) fn topology_spread(list: &At) {
    let pair = |constraint: &At<'_, '_>| {
        (constraint.get("topologyKey").text().to_owned(), constraint.get("whenUnsatisfiable").text().to_owned())
    };
    let last: HashMap<_, _> = list.items().enumerate().map(|(index, constraint)| (pair(&constraint), index)).collect();
    for (index, constraint) in list.items().enumerate() {
        constraint.get("maxSkew").positive();
        constraint.get("topologyKey").need_because("can not be empty");
        let action = constraint.get("whenUnsatisfiable");
        action.one_of(&["DoNotSchedule", "ScheduleAnyway"]);
        let own = pair(&constraint);
        if last.get(&own).is_some_and(|last| *last > index) {
            constraint.get("{topologyKey, whenUnsatisfiable}").duplicate_value(format!("{{{}, {}}}", own.0, own.1));
        }
        let domains = constraint.get("minDomains");
        if domains.is_set() {
            domains.positive();
            if action.text() != "DoNotSchedule" {
                let detail =
                    format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", action.text());
                domains.invalid(detail);
            }
        }
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.get(name).one_of_if_set(&["Honor", "Ignore"]);
        }
        label_keys(&constraint);
        common::label_selector(&constraint.get("labelSelector"));
    }
}

/// `ValidateTolerations`.
pub(in crate::strategy::validate) fn tolerations(list: &At) {
    for toleration in list.items() {
        let (key, operator, value) = (toleration.get("key"), toleration.get("operator"), toleration.get("value"));
        let effect = toleration.get("effect");
        key.named_if_set(names::qualified_name);
        if key.is_empty() && operator.text() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            operator.invalid_value(operator.text(), detail);
        }
        if toleration.get("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            effect.invalid_value(effect.text(), "effect must be 'NoExecute' when `tolerationSeconds` is set");
        }
        match operator.text() {
            "" | "Equal" => {
                let problems = names::label_value(value.text());
                if !problems.is_empty() {
                    operator.invalid_value(value.text(), problems.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                operator.invalid_value(value.text(), "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => operator.not_supported(&["Equal", "Exists", "Lt", "Gt"]),
            _ => operator.not_supported(&["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            effect.one_of(&EFFECTS);
        }
    }
}

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// `validateNodeTaints`.
pub(in crate::strategy::validate) fn taints(list: &At) {
    let mut seen: HashSet<(&str, &str)> = HashSet::new();
    for taint in list.items() {
        let (key, effect) = (taint.get("key"), taint.get("effect"));
        key.named(names::qualified_name);
        let problems = names::label_value(taint.get("value").text());
        if !problems.is_empty() {
            taint.get("value").invalid(problems.join(";"));
        }
        effect.need_one_of(&EFFECTS);
        let pair = (effect.text(), key.text());
        if !seen.insert(pair) {
            taint.duplicate_because("taints must be unique by key and effect pair");
        }
    }
}
