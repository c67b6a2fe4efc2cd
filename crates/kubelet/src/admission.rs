//! Whether a pod that was bound to this node fits on it (upstream `pkg/kubelet/lifecycle/predicate.go`). Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::quantity::Quantity as Amount;
use client::{
    kinds::core::v1::{Node, Pod, Taint},
    labels::RequiredNodeAffinity,
    taints,
};
use volumes::resources::{QosClass, amount, pod_requests, qos_class};

use crate::{
    eviction::{REASON, plan::Condition, rank::is_critical},
    plan::{Verdict, spec},
};

fn refuse(reason: impl Into<String>, message: impl Into<String>) -> Option<Verdict> {
    let message = format!("Pod was rejected: {}", message.into());
    Some(Verdict { reason: reason.into(), message, grace_seconds: Some(0), disruption: false })
}

/// Whether a node under pressure takes the pod (upstream `eviction_manager.go: Admit`).
pub fn admit_under(pod: &Pod, conditions: &BTreeSet<Condition>) -> Option<Verdict> {
    if conditions.is_empty() || is_critical(pod) {
        return None;
    }
    // Memory pressure alone keeps only those out that ask for nothing, and tolerate nothing.
    if conditions.iter().eq([&Condition::MemoryPressure]) {
        let key = "node.kubernetes.io/memory-pressure".into();
        let taint = Taint { key, effect: "NoSchedule".into(), ..Taint::default() };
        let tolerates = taints::tolerated(spec::spec(pod).tolerations.as_deref().unwrap_or_default(), &taint);
        if tolerates || qos_class(pod) != QosClass::BestEffort {
            return None;
        }
    }
    let conditions: Vec<String> = conditions.iter().map(Condition::to_string).collect();
    refuse(REASON, format!("The node had condition: [{}]. ", conditions.join(" ")))
}

/// `None`: it may run. `others`: the pods that are on the node and have not ended.
pub fn admit(pod: &Pod, others: &[&Pod], node: &Node) -> Option<Verdict> {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    if let Some(allocatable) = allocatable {
        let most = allocatable.get("pods").map(amount).unwrap_or_default().value();
        if i64::try_from(others.len()).unwrap_or(i64::MAX) >= most {
            let text = format!(
                "Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {most}",
                others.len()
            );
            return refuse("OutOfpods", text);
        }
        if let Some((name, message)) = lacking(pod, others, allocatable) {
            return refuse(format!("OutOf{name}"), message);
        }
    }
    if !RequiredNodeAffinity::new(&spec::spec(pod)).matches(node) {
        return refuse(
            "NodeAffinity",
            "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        );
    }
    if host_ports(pod)
        .iter()
        .any(|port| others.iter().any(|other| host_ports(other).iter().any(|taken| clash(port, taken))))
    {
        return refuse(
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        );
    }
    None
}

/// The first resource of which too little is left, and what to say of it.
pub(crate) fn lacking(
    pod: &Pod,
    others: &[&Pod],
    allocatable: &BTreeMap<String, client::apimachinery::pkg::api::resource::Quantity>,
) -> Option<(String, String)> {
    for (name, wanted) in pod_requests(pod) {
        if wanted.is_zero() {
            continue;
        }
        let taken: Amount = others.iter().filter_map(|other| pod_requests(other).get(&name).copied()).sum();
        let capacity = allocatable.get(&name).map(amount).unwrap_or_default();
        if taken + wanted > capacity {
            let number = |amount: Amount| if name == "cpu" { amount.milli_value() } else { amount.value() };
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
                number(wanted),
                number(taken),
                number(capacity)
            );
            return Some((name, message));
        }
    }
    None
}

type HostPort = (String, i32, String);

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let on_host = spec::host_network(pod);
    let containers = spec::containers(pod);
    let ports = containers.iter().flat_map(|(_, container)| container.ports.clone().unwrap_or_default());
    ports
        .filter_map(|port| {
            let number = port.host_port.or(on_host.then_some(port.container_port)).filter(|number| *number > 0)?;
            let ip = port.host_ip.filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".into());
            Some((ip, number, port.protocol.unwrap_or_else(|| "TCP".into())))
        })
        .collect()
}

fn clash(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
}
