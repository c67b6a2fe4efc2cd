//! Pods (`pkg/registry/core/pod/strategy.go`).

use api::{Value, quantity::Quantity};
use jiff::Timestamp;

use super::Strategy;
use crate::admission::amounts::{self, Side};

pub struct Pods;

impl Strategy for Pods {
    fn fields(&self) -> &'static [&'static str] {
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ]
    }

    fn prepare_create(&self, object: &mut Value) {
        let class = qos_class(object);
        object.set(&["status", "phase"], "Pending");
        object.set(&["status", "qosClass"], class);
        if object.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).is_some_and(|own| own < 0) {
            object.set(&["spec", "terminationGracePeriodSeconds"], 1);
        }
        complete_resources(object);
        hold_at_gates(object);
        apply_label_keys(object);
    }

    fn prepare_update(&self, object: &mut Value, _old: &Value) {
        complete_resources(object);
    }

    /// Clients of old leave out what a class is and which generation they saw (preserveOldObservedGeneration).
    fn prepare_status(&self, object: &mut Value, old: &Value, _now: Timestamp) {
        if object.str_at(&["status", "qosClass"]).is_empty()
            && let Some(class) = old.at(&["status", "qosClass"])
        {
            object.set(&["status", "qosClass"], class.clone());
        }
        keep_generations(object, old);
    }

    /// The pod's own grace period, unless the client names another; none for a pod that no kubelet runs.
    fn grace_period_seconds(&self, object: &Value, asked: Option<i64>) -> Option<i64> {
        let own = object.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(30);
        let wanted = asked.unwrap_or(own.max(1));
        let unscheduled = object.str_at(&["spec", "nodeName"]).is_empty();
        let ended = matches!(object.str_at(&["status", "phase"]), "Succeeded" | "Failed");
        Some(if unscheduled || ended { 0 } else { wanted })
    }
}

fn generation(value: &Value) -> i64 {
    value.get("observedGeneration").and_then(Value::as_i64).unwrap_or(0)
}

fn keep_generations(object: &mut Value, old: &Value) {
    let before = old.get("status").map_or(0, generation);
    if before != 0 && object.get("status").is_some_and(|status| generation(status) == 0) {
        object.set(&["status", "observedGeneration"], before);
    }
    // There may be several conditions of one type: each has the generation of its counterpart.
    let path = ["status", "conditions"];
    let mut known: Vec<(&str, i64)> = old
        .at(&path)
        .and_then(Value::as_array)
        .unwrap_or_default()
        .iter()
        .map(|condition| (condition.str_at(&["type"]), generation(condition)))
        .collect();
    for condition in object.at_mut(&path).and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(at) = known.iter().position(|(kind, _)| *kind == condition.str_at(&["type"])) else { continue };
        let (_, before) = known.remove(at);
        if before != 0 && generation(condition) == 0 {
            condition.set(&["observedGeneration"], before);
        }
    }
}

/// A pod that asks for some resources as a whole asks for the others as its containers do, or as it is limited
/// (defaultHugePagePodLimits, defaultPodRequests of `pkg/apis/core/v1/defaults.go`).
fn complete_resources(pod: &mut Value) {
    let own = |pod: &Value, side: Side| amounts::read(pod.at(&["spec", "resources", side.name()]));
    let (mut limits, mut requests) = (own(pod, Side::Limits), own(pod, Side::Requests));
    if limits.is_empty() && requests.is_empty() {
        return;
    }
    let is_huge = |name: &str| name.starts_with("hugepages-");
    for (name, limit) in amounts::of_containers(pod, Side::Limits) {
        if is_huge(&name) && !requests.contains_key(&name) {
            limits.entry(name).or_insert(limit);
        }
    }
    if !limits.is_empty() {
        let asked = amounts::of_containers(pod, Side::Requests).into_iter().filter(|(name, _)| !is_huge(name));
        for (name, amount) in asked.chain(limits.clone()).filter(|(name, _)| amounts::is_of_pods(name)) {
            requests.entry(name).or_insert(amount);
        }
    }
    for (side, all) in [(Side::Limits, limits), (Side::Requests, requests)] {
        for (name, amount) in all {
            pod.set(&["spec", "resources", side.name(), &name], amount.to_string());
        }
    }
}

/// A pod with gates says why it waits (applySchedulingGatedCondition).
fn hold_at_gates(pod: &mut Value) {
    if pod.at(&["spec", "schedulingGates"]).and_then(Value::as_array).is_none_or(<[Value]>::is_empty) {
        return;
    }
    let mut condition = Value::object();
    for (name, value) in [
        ("type", "PodScheduled"),
        ("status", "False"),
        ("reason", "SchedulingGated"),
        ("message", "Scheduling is blocked due to non-empty scheduling gates"),
    ] {
        condition.set(&[name], value);
    }
    condition.set(&["lastProbeTime"], Value::Null);
    condition.set(&["lastTransitionTime"], pod.str_at(&["metadata", "creationTimestamp"]).to_owned());
    pod.set(&["status", "conditions"], vec![condition]);
}

/// `matchLabelKeys` become part of the selectors that they stand beside, with the pod's own labels
/// (mutatePodAffinity, mutateTopologySpreadConstraints).
fn apply_label_keys(pod: &mut Value) {
    let labels = pod.at(&["metadata", "labels"]).and_then(Value::as_object).cloned().unwrap_or_default();
    let apply = |term: &mut Value| {
        for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let keys = term.get(keys).and_then(Value::as_array).unwrap_or_default().to_vec();
            let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else { continue };
            for key in keys.iter().filter_map(Value::as_str) {
                let Some(value) = labels.get(key).cloned() else { continue };
                let mut requirement = Value::object();
                requirement.set(&["key"], key);
                requirement.set(&["operator"], operator);
                requirement.set(&["values"], vec![value]);
                let requirements = selector.entry_or_insert_with("matchExpressions", || Value::Array(Vec::new()));
                if let Some(requirements) = requirements.as_array_mut() {
                    requirements.push(requirement);
                }
            }
        }
    };
    let each = |pod: &mut Value, path: &[&str], apply: &dyn Fn(&mut Value)| {
        pod.at_mut(path).and_then(Value::as_array_mut).into_iter().flatten().for_each(apply);
    };
    each(pod, &["spec", "topologySpreadConstraints"], &apply);
    for kind in ["podAffinity", "podAntiAffinity"] {
        each(pod, &["spec", "affinity", kind, "requiredDuringSchedulingIgnoredDuringExecution"], &apply);
        each(pod, &["spec", "affinity", kind, "preferredDuringSchedulingIgnoredDuringExecution"], &|term| {
            if let Some(term) = term.get_mut("podAffinityTerm") {
                apply(term);
            }
        });
    }
}

/// A pod's containers in one of the lists of its spec.
pub(crate) fn containers<'p>(pod: &'p Value, list: &str) -> &'p [Value] {
    pod.at(&["spec", list]).and_then(Value::as_array).unwrap_or_default()
}

/// `pkg/apis/core/v1/helper/qos`: guaranteed where every container's limits equal its requests for CPU and memory, or the
/// pod's own where it has some.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    let quantity = |container: &Value, kind: &str, name: &str| {
        let text = container.at(&["resources", kind, name])?.as_str()?;
        Quantity::parse(text).ok().filter(|quantity| !quantity.is_zero())
    };
    let whole = pod.get("spec").filter(|spec| spec.get("resources").is_some()).map(std::slice::from_ref);
    let parts = || ["containers", "initContainers"].into_iter().flat_map(|list| containers(pod, list));
    let (mut any, mut guaranteed) = (false, true);
    for container in whole.into_iter().flatten().chain(parts().filter(|_| whole.is_none())) {
        for name in ["cpu", "memory"] {
            let (request, limit) = (quantity(container, "requests", name), quantity(container, "limits", name));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
