//! What counts against a quota (upstream pkg/quota/v1/evaluator/core).

use std::{collections::BTreeMap, sync::Arc};

use api::quantity::{Format, Quantity};
use client::{
    apimachinery::pkg::api::resource::Quantity as Text,
    kinds::core::v1::{
        Container, PersistentVolumeClaim, Pod, ResourceQuota, ScopedResourceSelectorRequirement, Service,
    },
};
use jiff::Timestamp;

use crate::shared::{after_seconds, pods};

pub struct Inputs {
    pub quota: Arc<ResourceQuota>,
    pub pods: Vec<Arc<Pod>>,
    pub services: Vec<Arc<Service>>,
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    /// Numbers of other objects, by the quota's name for them.
    pub others: BTreeMap<String, i64>,
}

type Usage = BTreeMap<String, Quantity>;

fn add(usage: &mut Usage, name: impl Into<String>, amount: Quantity) {
    *usage.entry(name.into()).or_insert(Quantity::ZERO) += amount;
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSI)
}

/// Kinds counted by listing: the quota's name, the resource, its group.
pub fn other_kinds(quota: &ResourceQuota) -> Vec<(String, String, String)> {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.clone()).unwrap_or_default();
    const OLD: [&str; 4] = ["configmaps", "secrets", "replicationcontrollers", "resourcequotas"];
    const INFORMED: [&str; 3] = ["pods", "services", "persistentvolumeclaims"];
    let parse = |name: String| match name.strip_prefix("count/") {
        Some(counted) => {
            let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
            let is_informed = group.is_empty() && INFORMED.contains(&resource);
            (!is_informed).then(|| (name.clone(), resource.to_owned(), group.to_owned()))
        }
        None => OLD.contains(&name.as_str()).then(|| (name.clone(), name.clone(), String::new())),
    };
    hard.into_keys().filter_map(parse).collect()
}

pub fn used(inputs: &Inputs, now: Timestamp) -> Usage {
    let mut usage = Usage::new();
    for pod in inputs.pods.iter().filter(|pod| in_scope(&inputs.quota, pod)) {
        add(&mut usage, "count/pods", one());
        if is_charged(pod, now) {
            charge_pod(&mut usage, pod);
        }
    }
    let has_scopes = inputs.quota.spec.as_ref().is_some_and(|spec| {
        spec.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty()) || spec.scope_selector.is_some()
    });
    if !has_scopes {
        inputs.services.iter().for_each(|service| charge_service(&mut usage, service));
        inputs.claims.iter().for_each(|claim| charge_claim(&mut usage, claim));
        for (name, count) in &inputs.others {
            add(&mut usage, name.as_str(), Quantity::new(*count, Format::DecimalSI));
        }
    }
    usage
}

/// Not finished, and not being deleted for longer than its grace period (`QuotaV1Pod`).
fn is_charged(pod: &Pod, now: Timestamp) -> bool {
    let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
    let is_overdue = pod.metadata.deletion_timestamp.as_ref().is_some_and(|at| after_seconds(at.0, grace) < now);
    !pods::is_terminal(pod) && !is_overdue
}

#[derive(Clone, Copy)]
enum Side {
    Requests,
    Limits,
}

fn resources(container: &Container, side: Side) -> Usage {
    let all = container.resources.as_ref();
    let map = match side {
        Side::Requests => all.and_then(|all| all.requests.as_ref()),
        Side::Limits => all.and_then(|all| all.limits.as_ref()),
    };
    parse(map)
}

fn parse(map: Option<&BTreeMap<String, Text>>) -> Usage {
    map.into_iter().flatten().filter_map(|(name, text)| Some((name.clone(), Quantity::parse(&text.0).ok()?))).collect()
}

/// The sum of containers and sidecars, or the largest moment of initialization, with overhead.
fn pod_resources(pod: &Pod, side: Side) -> Usage {
    let mut total = Usage::new();
    let Some(spec) = &pod.spec else {
        return total;
    };
    for container in &spec.containers {
        resources(container, side).into_iter().for_each(|(name, amount)| add(&mut total, name, amount));
    }
    let (mut sidecars, mut highest) = (Usage::new(), Usage::new());
    for container in spec.init_containers.iter().flatten() {
        let own = resources(container, side);
        if container.restart_policy.as_deref() == Some("Always") {
            for (name, amount) in own {
                add(&mut total, name.as_str(), amount);
                add(&mut sidecars, name, amount);
            }
            continue;
        }
        for (name, amount) in own {
            let moment = amount + sidecars.get(&name).copied().unwrap_or(Quantity::ZERO);
            let most = highest.entry(name).or_insert(moment);
            *most = moment.max(*most);
        }
    }
    for (name, moment) in highest {
        let sum = total.entry(name).or_insert(moment);
        *sum = moment.max(*sum);
    }
    parse(spec.overhead.as_ref()).into_iter().for_each(|(name, amount)| add(&mut total, name, amount));
    total
}

fn charge_pod(usage: &mut Usage, pod: &Pod) {
    add(usage, "pods", one());
    for (name, amount) in pod_resources(pod, Side::Requests) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-") {
            add(usage, name.as_str(), amount);
        }
        add(usage, format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_resources(pod, Side::Limits) {
        add(usage, format!("limits.{name}"), amount);
    }
}

fn charge_service(usage: &mut Usage, service: &Service) {
    add(usage, "services", one());
    add(usage, "count/services", one());
    let spec = service.spec.clone().unwrap_or_default();
    let ports = Quantity::new(spec.ports.as_ref().map_or(0, Vec::len) as i64, Format::DecimalSI);
    match spec.type_.as_deref() {
        Some("NodePort") => add(usage, "services.nodeports", ports),
        Some("LoadBalancer") => {
            add(usage, "services.loadbalancers", one());
            if spec.allocate_load_balancer_node_ports != Some(false) {
                add(usage, "services.nodeports", ports);
            }
        }
        _ => {}
    }
}

fn charge_claim(usage: &mut Usage, claim: &PersistentVolumeClaim) {
    let spec = claim.spec.clone().unwrap_or_default();
    let storage =
        parse(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref())).get("storage").copied();
    let storage = storage.unwrap_or(Quantity::ZERO);
    add(usage, "persistentvolumeclaims", one());
    add(usage, "count/persistentvolumeclaims", one());
    add(usage, "requests.storage", storage);
    if let Some(class) = spec.storage_class_name {
        add(usage, format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
        add(usage, format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
    }
}

fn in_scope(quota: &ResourceQuota, pod: &Pod) -> bool {
    let Some(spec) = &quota.spec else {
        return true;
    };
    let named = spec.scopes.iter().flatten().all(|scope| has_scope(scope, pod));
    let selected = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    named && selected.into_iter().all(|requirement| meets(requirement, pod))
}

fn meets(requirement: &ScopedResourceSelectorRequirement, pod: &Pod) -> bool {
    if requirement.scope_name != "PriorityClass" {
        return has_scope(&requirement.scope_name, pod) == (requirement.operator != "DoesNotExist");
    }
    let class =
        pod.spec.as_ref().and_then(|spec| spec.priority_class_name.as_deref()).filter(|class| !class.is_empty());
    let is_listed = class.is_some_and(|class| requirement.values.iter().flatten().any(|value| value == class));
    match requirement.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => class.is_some(),
        _ => class.is_none(),
    }
}

fn has_scope(scope: &str, pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let is_terminating = spec.and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0);
    let is_best_effort =
        || pod_resources(pod, Side::Requests).is_empty() && pod_resources(pod, Side::Limits).is_empty();
    match scope {
        "Terminating" => is_terminating,
        "NotTerminating" => !is_terminating,
        "BestEffort" => is_best_effort(),
        "NotBestEffort" => !is_best_effort(),
        "PriorityClass" => {
            spec.is_some_and(|spec| spec.priority_class_name.as_ref().is_some_and(|class| !class.is_empty()))
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn crosses_namespaces(pod: &Pod) -> bool {
    let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else {
        return false;
    };
    let near = affinity.pod_affinity.iter().flat_map(|one| {
        let preferred = one
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
            .map(|term| &term.pod_affinity_term);
        one.required_during_scheduling_ignored_during_execution.iter().flatten().chain(preferred)
    });
    let far = affinity.pod_anti_affinity.iter().flat_map(|one| {
        let preferred = one
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
            .map(|term| &term.pod_affinity_term);
        one.required_during_scheduling_ignored_during_execution.iter().flatten().chain(preferred)
    });
    near.chain(far)
        .any(|term| term.namespaces.as_ref().is_some_and(|list| !list.is_empty()) || term.namespace_selector.is_some())
}
