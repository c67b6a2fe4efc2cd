//! A node's health from its heartbeats: conditions turn Unknown, taints follow conditions
//! (upstream nodelifecycle/node_lifecycle_controller.go).
//!
//! Not followed: zones (evictions slow down when most of a zone is unhealthy).

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{
    Clock, Delta, Informer, Kind, ListParams, ObjectKey, PatchKind,
    apimachinery::pkg::apis::meta::v1::Time,
    kinds::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, Pod, Taint},
    },
    taints,
};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;

use super::{BY_NODE, index_by_node};
use crate::{
    manager::Setup,
    plan::{Plan, PlannedEvent},
    runtime::{Context, Controller},
    shared::{is_deleting, nodes, owners, pods, until},
};

pub struct Inputs {
    pub node: Arc<Node>,
    pub pods: Vec<Arc<Pod>>,
    /// When the node was last seen to renew its lease or status, by this machine's clock.
    pub heartbeat: Timestamp,
    pub grace: Duration,
}

/// Conditions the kubelet keeps, with the taint of each and the status that calls for it.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", nodes::NOT_READY),
    ("Ready", "Unknown", nodes::UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const KUBELETS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

pub fn plan(inputs: &Inputs, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut node = (*inputs.node).clone();
    let deadline = inputs.heartbeat.checked_add(inputs.grace).unwrap_or(Timestamp::MAX);
    let left = until(deadline, now);
    plan.requeue_after(left.unwrap_or(inputs.grace));
    let was_ready = ready(&node) == "True";
    if left.is_none() && lose_touch(&mut node, now) {
        // Held to what was seen: a status the kubelet posted meanwhile wins.
        plan.update_status(&node).ignore_not_found();
        if was_ready {
            let message = format!("Node {} status is now: NodeNotReady", node.name());
            plan.event(PlannedEvent::normal(&node, "NodeNotReady", message));
        }
    }
    let taints = wanted_taints(&node, now);
    if taints.as_slice() != taints::of(&node) {
        let patch =
            json!({"metadata": {"uid": node.uid()}, "spec": {"taints": (!taints.is_empty()).then_some(&taints)}});
        plan.patch(&node, PatchKind::Merge, &patch).ignore_not_found();
    }
    if ready(&node) != "True" {
        mark_pods(&mut plan, inputs, now);
    }
    plan
}

fn ready(node: &Node) -> &str {
    nodes::condition(node, "Ready").map_or("Unknown", |condition| &condition.status)
}

/// Sets the kubelet's conditions to Unknown; false where they were.
fn lose_touch(node: &mut Node, now: Timestamp) -> bool {
    let created = node.metadata.creation_timestamp.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    let mut is_changed = false;
    for name in KUBELETS {
        match conditions.iter_mut().find(|condition| condition.type_ == name) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = Some(Time(now));
                is_changed = true;
            }
            None => {
                conditions.push(NodeCondition {
                    type_: name.into(),
                    status: "Unknown".into(),
                    reason: Some("NodeStatusNeverUpdated".into()),
                    message: Some("Kubelet never posted node status.".into()),
                    last_heartbeat_time: created.clone(),
                    last_transition_time: Some(Time(now)),
                });
                is_changed = true;
            }
        }
    }
    is_changed
}

/// The node's taints with those of its conditions as they are now; others stay untouched.
fn wanted_taints(node: &Node, now: Timestamp) -> Vec<Taint> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (condition, status, key) in TAINTS {
        let current = nodes::condition(node, condition).map(|condition| condition.status.as_str());
        if current == Some(status) {
            wanted.push((key, "NoSchedule"));
            if condition == "Ready" {
                wanted.push((key, "NoExecute"));
            }
        }
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((taints::UNSCHEDULABLE, "NoSchedule"));
    }
    let is_ours = |taint: &Taint| match taint.effect.as_str() {
        "NoSchedule" => taint.key == taints::UNSCHEDULABLE || TAINTS.iter().any(|(_, _, key)| *key == taint.key),
        "NoExecute" => taint.key == nodes::NOT_READY || taint.key == nodes::UNREACHABLE,
        _ => false,
    };
    let is_wanted = |taint: &Taint| wanted.iter().any(|(key, effect)| *key == taint.key && *effect == taint.effect);
    let mut taints: Vec<Taint> =
        taints::of(node).iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !taints.iter().any(|taint| taint.key == key && taint.effect == effect) {
            taints.push(Taint { key: key.into(), effect: effect.into(), value: None, time_added: Some(Time(now)) });
        }
    }
    taints
}

/// Pods of an unready node are not ready either (controller_utils.go `MarkPodsNotReady`).
fn mark_pods(plan: &mut Plan, inputs: &Inputs, now: Timestamp) {
    for pod in inputs.pods.iter().filter(|pod| pods::is_ready(pod) && !is_deleting(&***pod)) {
        let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": now.to_string()});
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        plan.patch_status(&**pod, PatchKind::Strategic, &patch).ignore_not_found();
        plan.event(PlannedEvent::warning(&**pod, "NodeNotReady", "Node is not ready"));
    }
}

struct Lifecycle {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    heartbeats: Arc<Mutex<HashMap<String, Timestamp>>>,
    grace: Duration,
}

impl Controller for Lifecycle {
    fn name(&self) -> &'static str {
        "node-lifecycle-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        let Some(node) = self.nodes.get("", &key.name) else {
            self.heartbeats.lock().remove(&key.name);
            return Plan::default();
        };
        let heartbeat = *self.heartbeats.lock().entry(key.name.clone()).or_insert(context.now);
        let inputs = Inputs { pods: self.pods.by_index(BY_NODE, &key.name), node, heartbeat, grace: self.grace };
        plan(&inputs, context.now)
    }
}

fn heartbeat_of(node: &Node) -> Option<Timestamp> {
    nodes::condition(node, "Ready")?.last_heartbeat_time.as_ref().map(|time| time.0)
}

pub fn register(setup: &mut Setup) {
    let nodes = setup.informer::<Node>();
    let pods = setup.informer::<Pod>();
    let leases = setup.informer_with::<Lease>(ListParams::fields("metadata.namespace=kube-node-lease"));
    let queue = setup.queue("node-lifecycle-controller");
    index_by_node(&pods);
    let heartbeats: Arc<Mutex<HashMap<String, Timestamp>>> = Arc::default();
    let clock: Arc<dyn Clock> = setup.config.clock.clone();

    let (to, beats, time) = (queue.clone(), heartbeats.clone(), clock.clone());
    nodes.on_event(move |delta| {
        if let Delta::Updated { old, new } = delta
            && heartbeat_of(old) != heartbeat_of(new)
        {
            beats.lock().insert(new.name().to_owned(), time.now());
        }
        to.add(owners::newest(delta).key());
    });
    // A renewed lease changes nothing but the time: the pass that waits for the deadline finds it moved.
    let beats = heartbeats.clone();
    leases.on_event(move |delta| {
        if !matches!(delta, Delta::Deleted(_)) {
            beats.lock().insert(owners::newest(delta).name().to_owned(), clock.now());
        }
    });
    let grace = setup.config.node_monitor_grace_period;
    setup.run(Lifecycle { nodes, pods, heartbeats, grace }, queue, 4);
}
