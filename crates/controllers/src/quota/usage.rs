//! What counts against a quota (upstream pkg/quota/v1/evaluator/core).

use std::{collections::BTreeMap, sync::Arc};

use api::quantity::{Format, Quantity};
use client::{
    apimachinery::pkg::api::resource::Quantity as Text,
    kinds::core::v1::{
        Container, PersistentVolumeClaim, Pod, ResourceQuota, ScopedResourceSelectorRequirement as Scope, Service,
    },
};
use jiff::Timestamp;

use crate::shared::{after_seconds, claims, pods};

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
    for pod in inputs.pods.iter().filter(|pod| in_scope(&inputs.quota, |scope| pod_in(scope, pod))) {
        add(&mut usage, "count/pods", one());
        if is_charged(pod, now) {
            charge_pod(&mut usage, pod);
        }
    }
    for claim in inputs.claims.iter().filter(|claim| in_scope(&inputs.quota, |scope| claim_in(scope, claim))) {
        charge_claim(&mut usage, claim);
    }
    if in_scope(&inputs.quota, |_| false) {
        inputs.services.iter().for_each(|service| charge_service(&mut usage, service));
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
    let ports = spec.ports.as_deref().unwrap_or_default();
    let number = |ports: usize| Quantity::new(ports as i64, Format::DecimalSI);
    match spec.type_.as_deref() {
        Some("NodePort") => add(usage, "services.nodeports", number(ports.len())),
        Some("LoadBalancer") => {
            add(usage, "services.loadbalancers", one());
            let fixed = ports.iter().filter(|port| port.node_port.is_some_and(|number| number != 0)).count();
            let allocates = spec.allocate_load_balancer_node_ports != Some(false);
            add(usage, "services.nodeports", number(if allocates { ports.len() } else { fixed }));
        }
        _ => {}
    }
}

fn charge_claim(usage: &mut Usage, claim: &PersistentVolumeClaim) {
    let spec = claim.spec.clone().unwrap_or_default();
    let asked = parse(spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()));
    let allocated = parse(claim.status.as_ref().and_then(|status| status.allocated_resources.as_ref()));
    // While a claim is resized it may have more than it asks for.
    let most = [asked, allocated].iter().filter_map(|amounts| amounts.get("storage").copied()).max();
    let storage = most.map_or(Quantity::ZERO, |most| match most.as_i64() {
        Some(_) => most,
        None => Quantity::new(most.value(), most.format()),
    });
    let annotations = claim.metadata.annotations.as_ref();
    let class = annotations.and_then(|annotations| annotations.get("volume.beta.kubernetes.io/storage-class")).cloned();
    add(usage, "persistentvolumeclaims", one());
    add(usage, "count/persistentvolumeclaims", one());
    add(usage, "requests.storage", storage);
    if let Some(class) = class.or(spec.storage_class_name).filter(|class| !class.is_empty()) {
        add(usage, format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
        add(usage, format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), one());
    }
}

/// Whether an object is within all of the quota's scopes: `is_in` knows of each.
fn in_scope(quota: &ResourceQuota, is_in: impl Fn(&Scope) -> bool) -> bool {
    let Some(spec) = &quota.spec else {
        return true;
    };
    let exists = |name: &String| Scope { scope_name: name.clone(), operator: "Exists".into(), values: None };
    let selected = spec.scope_selector.iter().flat_map(|selector| selector.match_expressions.iter().flatten());
    spec.scopes.iter().flatten().all(|name| is_in(&exists(name))) && selected.into_iter().all(&is_in)
}

/// Whether one of an object's classes meets the scope; no class at all meets what asks for absence.
fn selects(scope: &Scope, classes: &[&str]) -> bool {
    let is_listed = |class: &&str| scope.values.iter().flatten().any(|value| value == class);
    match scope.operator.as_str() {
        "In" => classes.iter().any(is_listed),
        "NotIn" => classes.is_empty() || classes.iter().any(|class| !is_listed(class)),
        "Exists" => !classes.is_empty(),
        _ => classes.is_empty(),
    }
}

fn claim_in(scope: &Scope, claim: &PersistentVolumeClaim) -> bool {
    let classes = claims::attributes_classes(claim);
    let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
    scope.scope_name == "VolumeAttributesClass" && selects(scope, &classes)
}

fn pod_in(scope: &Scope, pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let is_terminating = spec.and_then(|spec| spec.active_deadline_seconds).is_some_and(|seconds| seconds >= 0);
    let is_best_effort =
        || pod_resources(pod, Side::Requests).is_empty() && pod_resources(pod, Side::Limits).is_empty();
    match scope.scope_name.as_str() {
        "Terminating" => is_terminating,
        "NotTerminating" => !is_terminating,
        "BestEffort" => is_best_effort(),
        "NotBestEffort" => !is_best_effort(),
        "PriorityClass" => {
            let class = spec.and_then(|spec| spec.priority_class_name.as_deref()).filter(|class| !class.is_empty());
            selects(scope, class.as_slice())
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
