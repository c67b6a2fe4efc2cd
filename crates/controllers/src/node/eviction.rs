//! Pods leave nodes whose NoExecute taints they do not tolerate, or no longer (upstream pkg/controller/tainteviction).

use std::{collections::HashMap, sync::Arc};

use client::{
    Delta, Informer, Kind, ObjectKey, PatchKind,
    kinds::core::v1::{Node, Pod, Taint},
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
    shared::{after_seconds, created_at, is_deleting, owners, pods, until},
};

pub struct Inputs {
    pub pods: Vec<Arc<Pod>>,
    /// The node's NoExecute taints, each with the time it was put there.
    pub taints: Vec<(Taint, Timestamp)>,
}

/// When a pod must go: now, later, or never (`None`).
fn leaves_at(pod: &Pod, taints: &[(Taint, Timestamp)]) -> Option<Timestamp> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut first: Option<Timestamp> = None;
    for (taint, since) in taints {
        let used: Vec<_> = tolerations.iter().filter(|toleration| taints::tolerates(toleration, taint)).collect();
        if used.is_empty() {
            return Some(Timestamp::MIN);
        }
        if let Some(seconds) = used.iter().filter_map(|toleration| toleration.toleration_seconds).min() {
            let at = after_seconds((*since).max(created_at(pod)), seconds.max(0));
            first = Some(first.map_or(at, |first| first.min(at)));
        }
    }
    first
}

pub fn plan(inputs: &Inputs, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let staying = inputs.pods.iter().filter(|pod| !is_deleting(&***pod) && !pods::is_terminal(pod));
    for pod in staying {
        let Some(at) = leaves_at(pod, &inputs.taints) else {
            continue;
        };
        if let Some(left) = until(at, now) {
            plan.requeue_after(left);
            continue;
        }
        let condition = json!({
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": now.to_string(),
        });
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        plan.patch_status(&**pod, PatchKind::Strategic, &patch).ignore_not_found();
        let message = format!("Marking for deletion Pod {}", pod.key());
        plan.delete(&**pod).then(PlannedEvent::normal(&**pod, "TaintManagerEviction", message));
    }
    plan
}

struct TaintEviction {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    /// When a taint without timeAdded was first seen.
    seen: Mutex<HashMap<(String, String, String), Timestamp>>,
}

impl TaintEviction {
    fn observe(&self, name: &str, now: Timestamp) -> Option<Inputs> {
        let node = self.nodes.get("", name);
        let taints: Vec<Taint> = node
            .iter()
            .flat_map(|node| taints::of(node))
            .filter(|taint| taint.effect == "NoExecute")
            .cloned()
            .collect();
        let mut seen = self.seen.lock();
        seen.retain(|(node, key, value), _| {
            node != name
                || taints.iter().any(|taint| taint.key == *key && taint.value.as_deref().unwrap_or("") == value)
        });
        if taints.is_empty() {
            return None;
        }
        let since = |taint: &Taint| {
            let key = (name.to_owned(), taint.key.clone(), taint.value.clone().unwrap_or_default());
            let first = taint.time_added.as_ref().map_or(now, |time| time.0);
            seen.get(&key).copied().unwrap_or(first)
        };
        let taints: Vec<(Taint, Timestamp)> = taints.into_iter().map(|taint| (taint.clone(), since(&taint))).collect();
        for (taint, at) in &taints {
            seen.insert((name.to_owned(), taint.key.clone(), taint.value.clone().unwrap_or_default()), *at);
        }
        drop(seen);
        Some(Inputs { pods: self.pods.by_index(BY_NODE, name), taints })
    }
}

impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    fn plan(&self, key: &ObjectKey, context: &Context) -> Plan {
        self.observe(&key.name, context.now).map(|inputs| plan(&inputs, context.now)).unwrap_or_default()
    }
}

pub fn register(setup: &mut Setup) {
    let nodes = setup.informer::<Node>();
    let pods = setup.informer::<Pod>();
    let queue = setup.queue("taint-eviction-controller");
    index_by_node(&pods);
    let to = queue.clone();
    nodes.on_event(move |delta| match delta {
        Delta::Updated { old, new } if taints::of(old) == taints::of(new) => {}
        Delta::Added(node) if taints::of(node).is_empty() => {}
        _ => to.add(owners::newest(delta).key()),
    });
    let (to, known) = (queue.clone(), nodes.clone());
    pods.on_event(move |delta| {
        let pod = owners::newest(delta);
        let is_new_here = match delta {
            Delta::Added(_) => true,
            Delta::Updated { old, new } => {
                let tolerations = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
                pods::node_name(old) != pods::node_name(new) || tolerations(old) != tolerations(new)
            }
            Delta::Deleted(_) => false,
        };
        let node = pods::node_name(pod);
        let is_tainted = || {
            known.get("", node).is_some_and(|node| taints::of(&node).iter().any(|taint| taint.effect == "NoExecute"))
        };
        if is_new_here && !node.is_empty() && is_tainted() {
            to.add(ObjectKey::new("", node));
        }
    });
    setup.run(TaintEviction { nodes, pods, seen: Mutex::default() }, queue, 4);
}
