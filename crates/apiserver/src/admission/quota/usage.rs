//! What an object of a kind counts for (upstream `pkg/quota/v1/evaluator/core` and `apiserver/pkg/quota/v1/generic`).

use api::{Value, quantity::Quantity};
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{
        Operation, Review,
        amounts::{self, Amounts, Side, one},
    },
    scopes,
};
use crate::strategy::containers;

/// How objects of one kind are measured.
pub(super) enum Evaluator {
    Pods,
    Services,
    Claims,
    /// By number: the names under which a quota may limit it.
    Count(Vec<String>),
}

/// Kinds that could be counted before every kind could.
const OLD_NAMES: [&str; 4] = ["configmaps", "resourcequotas", "replicationcontrollers", "secrets"];

const POD_RESOURCES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];
const SERVICE_RESOURCES: [&str; 4] = ["count/services", "services", "services.nodeports", "services.loadbalancers"];
const CLAIM_RESOURCES: [&str; 2] = ["persistentvolumeclaims", "requests.storage"];
const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// Every container has to ask for these where a quota limits them.
const COMPULSORY: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

impl Evaluator {
    /// The one that measures this write; none where the write changes nothing that is measured.
    pub(super) fn of(review: &Review<'_>, object: &Value) -> Option<Evaluator> {
        let (creates, updates) = (review.operation == Operation::Create, review.operation == Operation::Update);
        let (plural, old) = (&*review.resource.plural, review.old.unwrap_or(&Value::Null));
        match (&*review.resource.group, plural, review.subresource) {
            ("" | "events.k8s.io", "events", _) => None,
            ("authorization.k8s.io" | "authentication.k8s.io", ..) | ("", "bindings", _) => None,
            ("", "pods", "") => {
                let moves = updates && scopes::is_terminating(old) != scopes::is_terminating(object);
                (creates || moves).then_some(Evaluator::Pods)
            }
            ("", "pods", "resize") => updates.then_some(Evaluator::Pods),
            ("", "services", "") => (creates || updates).then_some(Evaluator::Services),
            ("", "persistentvolumeclaims", "") => (creates || updates).then_some(Evaluator::Claims),
            ("", "persistentvolumeclaims", "status") => {
                let grew = claim_storage(old) != claim_storage(object);
                (updates && (grew || scopes::volume_classes(old) != scopes::volume_classes(object)))
                    .then_some(Evaluator::Claims)
            }
            (group, plural, "") if creates => Some(Evaluator::Count(count_names(group, plural))),
            _ => None,
        }
    }

    /// Whether a quota's limit by this name is about this kind.
    pub(super) fn measures(&self, name: &str) -> bool {
        match self {
            Evaluator::Pods => {
                let extended = !is_native(name) || name.starts_with(&format!("requests.{DEVICE_CLASS}"));
                POD_RESOURCES.contains(&name)
                    || name.starts_with("hugepages-")
                    || name.starts_with("requests.hugepages-")
                    || (extended && name.starts_with("requests."))
            }
            Evaluator::Services => SERVICE_RESOURCES.contains(&name),
            Evaluator::Claims => {
                name == "count/persistentvolumeclaims"
                    || CLAIM_RESOURCES.contains(&name)
                    || name.split_once(CLASS_SUFFIX).is_some_and(|(_, resource)| CLAIM_RESOURCES.contains(&resource))
            }
            Evaluator::Count(names) => names.iter().any(|own| own == name),
        }
    }

    pub(super) fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        match self {
            Evaluator::Pods => pod_usage(object, now),
            Evaluator::Services => service_usage(object),
            Evaluator::Claims => claim_usage(object),
            Evaluator::Count(names) => names.iter().map(|name| (name.clone(), one())).collect(),
        }
    }

    /// What `object` has to say of the limited resources and does not.
    pub(super) fn missing(&self, limited: &[&str], object: &Value) -> Option<String> {
        if !matches!(self, Evaluator::Pods) || has_pod_level_resources(object) {
            return None;
        }
        let mut names: Vec<&str> = limited.iter().copied().filter(|name| COMPULSORY.contains(name)).collect();
        names.sort_unstable();
        let lacking = |name: &str| -> Vec<&str> {
            let all = ["containers", "initContainers"].into_iter().flat_map(|list| containers(object, list));
            let mut silent: Vec<&str> =
                all.filter(|container| !says(container, name)).map(|container| container.str_at(&["name"])).collect();
            silent.sort_unstable();
            silent.dedup();
            silent
        };
        let lines: Vec<String> = names
            .into_iter()
            .map(|name| (name, lacking(name)))
            .filter(|(_, containers)| !containers.is_empty())
            .map(|(name, containers)| format!("{name} for: {}", containers.join(",")))
            .collect();
        (!lines.is_empty()).then(|| format!("must specify {}", lines.join("; ")))
    }
}

fn count_names(group: &str, plural: &str) -> Vec<String> {
    let mut names = vec![format!("count/{}", api::status::qualified(group, plural))];
    if group.is_empty() && OLD_NAMES.contains(&plural) {
        names.push(plural.to_owned());
    }
    names
}

fn says(container: &Value, name: &str) -> bool {
    let (side, resource) = match name.split_once('.') {
        Some(("limits", resource)) => ("limits", resource),
        Some((_, resource)) => ("requests", resource),
        None => ("requests", name),
    };
    container.at(&["resources", side, resource]).is_some()
}

fn has_pod_level_resources(pod: &Value) -> bool {
    [Side::Requests, Side::Limits].into_iter().any(|side| {
        let asked = amounts::read(pod.at(&["spec", "resources", side.name()]));
        asked.keys().any(|name| matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-"))
    })
}

/// Resources of Kubernetes itself: without a domain, or in its own.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

fn pod_usage(pod: &Value, now: Timestamp) -> Amounts {
    let mut usage = Amounts::from([("count/pods".to_owned(), one())]);
    if !is_charged(pod, now) {
        return usage;
    }
    usage.insert("pods".into(), one());
    let is_basic = |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage");
    for (name, amount) in amounts::of_pod_with_overhead(pod, Side::Requests) {
        if is_basic(&name) || name.starts_with("hugepages-") {
            usage.insert(format!("requests.{name}"), amount);
            usage.insert(name, amount);
        } else if (!is_native(&name) && !name.starts_with("requests.")) || name.starts_with(DEVICE_CLASS) {
            // Extended resources cannot be overcommitted, so that only their requests are limited.
            usage.insert(format!("requests.{name}"), amount);
        }
    }
    for (name, amount) in amounts::of_pod_with_overhead(pod, Side::Limits) {
        if is_basic(&name) {
            usage.insert(format!("limits.{name}"), amount);
        }
    }
    usage
}

/// A pod that has ended, or that should have been gone by now, uses nothing (QuotaV1Pod).
fn is_charged(pod: &Value, now: Timestamp) -> bool {
    if matches!(pod.str_at(&["status", "phase"]), "Failed" | "Succeeded") {
        return false;
    }
    let deleted = pod.str_at(&["metadata", "deletionTimestamp"]).parse::<Timestamp>();
    let grace = pod.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Value::as_i64);
    match (deleted, grace) {
        (Ok(deleted), Some(grace)) => now <= deleted + SignedDuration::from_secs(grace.clamp(0, i32::MAX.into())),
        _ => true,
    }
}

fn service_usage(service: &Value) -> Amounts {
    let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default();
    let number = |count: usize| Quantity::new(count as i64, api::quantity::Format::DecimalSI);
    let (node_ports, balancers) = match service.str_at(&["spec", "type"]) {
        "NodePort" => (number(ports.len()), Quantity::ZERO),
        "LoadBalancer" => {
            let allocates = service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool);
            let has_port = |port: &&Value| port.get("nodePort").and_then(Value::as_i64).is_some_and(|port| port != 0);
            let fixed = ports.iter().filter(has_port).count();
            (number(if allocates == Some(false) { fixed } else { ports.len() }), one())
        }
        _ => (Quantity::ZERO, Quantity::ZERO),
    };
    let usage = [
        ("count/services", one()),
        ("services", one()),
        ("services.nodeports", node_ports),
        ("services.loadbalancers", balancers),
    ];
    usage.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect()
}

fn claim_usage(claim: &Value) -> Amounts {
    let class = match claim.str_at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        "" => claim.str_at(&["spec", "storageClassName"]),
        class => class,
    };
    let mut usage = Amounts::from([
        ("persistentvolumeclaims".to_owned(), one()),
        ("count/persistentvolumeclaims".to_owned(), one()),
    ]);
    let storage = claim_storage(claim);
    usage.extend(storage.map(|storage| ("requests.storage".to_owned(), storage)));
    if !class.is_empty() {
        usage.insert(format!("{class}{CLASS_SUFFIX}persistentvolumeclaims"), one());
        usage.extend(storage.map(|storage| (format!("{class}{CLASS_SUFFIX}requests.storage"), storage)));
    }
    usage
}

/// What the claim asks for or, while it is resized, already has; in whole bytes.
fn claim_storage(claim: &Value) -> Option<Quantity> {
    let at = |path: &[&str]| claim.at(path).and_then(amounts::quantity);
    let asked = at(&["spec", "resources", "requests", "storage"])?;
    let most = at(&["status", "allocatedResources", "storage"]).map_or(asked, |allocated| allocated.max(asked));
    Some(if most.as_i64().is_some() { most } else { Quantity::new(most.value(), most.format()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_measured_as_upstream_measures_them() {
        let claim = r#"{"spec":{"storageClassName":"gold","resources":{"requests":{"storage":"1500m"}}}}"#;
        let cases = [
            (
                Evaluator::Services,
                r#"{"spec":{"type":"ClusterIP","ports":[{}]}}"#,
                "count/services=1 services=1 services.loadbalancers=0 services.nodeports=0",
            ),
            (
                Evaluator::Services,
                r#"{"spec":{"type":"NodePort","ports":[{},{}]}}"#,
                "count/services=1 services=1 services.loadbalancers=0 services.nodeports=2",
            ),
            (
                Evaluator::Services,
                r#"{"spec":{"type":"LoadBalancer","allocateLoadBalancerNodePorts":false,"ports":[{"nodePort":30000},{}]}}"#,
                "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1",
            ),
            (
                Evaluator::Claims,
                claim,
                "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/requests.storage=2 persistentvolumeclaims=1 requests.storage=2",
            ),
            (
                Evaluator::Pods,
                r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"1","example.com/gpu":"2"},"limits":{"cpu":"2","example.com/gpu":"2"}}}]}}"#,
                "count/pods=1 cpu=1 limits.cpu=2 pods=1 requests.cpu=1 requests.example.com/gpu=2",
            ),
            (Evaluator::Pods, r#"{"status":{"phase":"Succeeded"},"spec":{"containers":[{}]}}"#, "count/pods=1"),
        ];
        for (evaluator, object, wanted) in cases {
            let object = api::json::parse(object.as_bytes()).expect("json");
            let usage = evaluator.usage(&object, Timestamp::UNIX_EPOCH);
            let text: Vec<String> = usage.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
            assert_eq!(text.join(" "), wanted);
            assert!(usage.keys().all(|name| evaluator.measures(name)), "{wanted}");
        }
    }
}
