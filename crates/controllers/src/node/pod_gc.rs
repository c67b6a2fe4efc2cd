//! Pods nobody else will remove: on nodes that are gone, never scheduled but being deleted, on machines declared out of
//! service, and finished ones beyond a threshold (upstream pkg/controller/podgc).

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{
    DeleteParams, Delta, Informer, Kind, ObjectKey, PatchKind,
    kinds::core::v1::{Node, Pod},
    taints,
};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    manager::Setup,
    plan::Plan,
    runtime::{Context, Controller},
    shared::{created_at, is_deleting, nodes, pods},
};

const PERIOD: Duration = Duration::from_secs(20);
/// How long a node must be missing, as informers of nodes and pods do not show the same moment.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub struct Inputs {
    pub pods: Vec<Arc<Pod>>,
    pub nodes: HashMap<String, Arc<Node>>,
    /// Nodes that pods name and that have been missing since.
    pub missing: HashMap<String, Timestamp>,
    pub threshold: usize,
}

pub fn plan(inputs: &Inputs, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    for pod in &inputs.pods {
        let node = pods::node_name(pod);
        let is_orphan = inputs.missing.get(node).is_some_and(|since| now.duration_since(*since) >= QUARANTINE);
        let is_lost = is_deleting(&**pod) && inputs.nodes.get(node).is_some_and(|node| is_out_of_service(node));
        if node.is_empty() && is_deleting(&**pod) {
            remove(&mut plan, pod, None, now);
        } else if is_orphan {
            remove(&mut plan, pod, Some("PodGC: node no longer exists"), now);
        } else if is_lost {
            remove(&mut plan, pod, None, now);
        }
    }
    let mut ended: Vec<&Arc<Pod>> =
        inputs.pods.iter().filter(|pod| pods::is_terminal(pod) && !is_deleting(&***pod)).collect();
    if inputs.threshold > 0 && ended.len() > inputs.threshold {
        ended.sort_by_key(|pod| (created_at(&***pod), pod.name().to_owned()));
        let surplus = ended.len() - inputs.threshold;
        ended.into_iter().take(surplus).for_each(|pod| remove(&mut plan, pod, None, now));
    }
    plan.requeue_after(PERIOD);
    plan
}

fn is_out_of_service(node: &Node) -> bool {
    let is_ready = nodes::condition(node, "Ready").is_some_and(|condition| condition.status == "True");
    !is_ready && taints::of(node).iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Marks the pod Failed, where nothing else will, and deletes it at once.
fn remove(plan: &mut Plan, pod: &Pod, disrupted: Option<&str>, now: Timestamp) {
    if !pods::is_terminal(pod) {
        let mut status = json!({"phase": "Failed"});
        if let Some(message) = disrupted {
            status["conditions"] = json!([{
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "DeletionByPodGC",
                "message": message,
                "lastTransitionTime": now.to_string(),
            }]);
        }
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": status});
        plan.patch_status(pod, PatchKind::Strategic, &patch).ignore_not_found();
    }
    let params = DeleteParams { uid: Some(pod.uid().into()), grace_period_seconds: Some(0), ..DeleteParams::default() };
    plan.delete_with(pod, params);
}

struct PodGc {
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    missing: Mutex<HashMap<String, Timestamp>>,
    threshold: usize,
}

impl Controller for PodGc {
    fn name(&self) -> &'static str {
        "pod-garbage-collector-controller"
    }

    fn plan(&self, _: &ObjectKey, context: &Context) -> Plan {
        let nodes: HashMap<String, Arc<Node>> =
            self.nodes.list().into_iter().map(|node| (node.name().to_owned(), node)).collect();
        let pods = self.pods.list();
        let mut missing = self.missing.lock();
        let named: HashMap<String, Timestamp> = pods
            .iter()
            .map(|pod| pods::node_name(pod))
            .filter(|name| !name.is_empty() && !nodes.contains_key(*name))
            .map(|name| (name.to_owned(), missing.get(name).copied().unwrap_or(context.now)))
            .collect();
        missing.clone_from(&named);
        drop(missing);
        plan(&Inputs { pods, nodes, missing: named, threshold: self.threshold }, context.now)
    }
}

pub fn register(setup: &mut Setup) {
    let pods = setup.informer::<Pod>();
    let nodes = setup.informer::<Node>();
    let queue = setup.queue("pod-garbage-collector-controller");
    queue.add(ObjectKey::default());
    let to = queue.clone();
    nodes.on_event(move |delta| {
        if matches!(delta, Delta::Deleted(_)) {
            to.add(ObjectKey::default());
        }
    });
    let to = queue.clone();
    pods.on_event(move |delta| {
        if let Delta::Updated { old, new } = delta
            && pods::node_name(new).is_empty()
            && is_deleting(&**new)
            && !is_deleting(&**old)
        {
            to.add(ObjectKey::default());
        }
    });
    let threshold = setup.config.terminated_pod_gc_threshold;
    setup.run(PodGc { pods, nodes, missing: Mutex::default(), threshold }, queue, 1);
}
