//! One pass over a DaemonSet (upstream daemon_controller.go `syncDaemonSet`, `podsShouldBeOnNode`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use client::{
    Kind,
    kinds::{
        apps::v1::{ControllerRevision, DaemonSet},
        core::v1::{Node, Pod},
    },
};
use jiff::Timestamp;

use super::{
    pod::{pod_for, should_run, target_node},
    status, update,
};
use crate::{
    plan::{Plan, PlannedEvent},
    replicaset::requeue_for_availability,
    shared::{after_seconds, created_at, history, is_deleting, label, owners, pods, selector, until},
};

pub struct Inputs {
    pub set: Arc<DaemonSet>,
    /// Pods the set controls or could adopt.
    pub pods: Vec<Arc<Pod>>,
    pub revisions: Vec<Arc<ControllerRevision>>,
    /// By name.
    pub nodes: Vec<Arc<Node>>,
}

/// Pods by the node they are for.
pub type ByNode<'a> = BTreeMap<&'a str, Vec<&'a Arc<Pod>>>;

/// A failed pod is kept this long, as the kubelet that refused it would refuse the next one too.
const FAILED_POD_SECONDS: i64 = 2;

#[derive(Default)]
pub struct Work {
    pub create_on: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
}

pub fn hash_label(pod: &Pod) -> &str {
    label(pod, history::REVISION_HASH).unwrap_or_default()
}

pub fn plan(inputs: &Inputs, taken: impl Fn(&str) -> Option<Arc<ControllerRevision>>, now: Timestamp) -> Plan {
    let set = &*inputs.set;
    let mut plan = Plan::default();
    if is_deleting(set) {
        return plan;
    }
    let spec = set.spec.clone().unwrap_or_default();
    let selector = selector::compile(Some(&spec.selector));
    if selector.is_everything() {
        plan.event(PlannedEvent::warning(
            set,
            "SelectingAll",
            "This daemon set is selecting all pods. A non-empty selector is required.",
        ));
        return plan;
    }
    let owned_revisions = inputs.revisions.iter().filter(|revision| owners::is_controlled_by(&***revision, set.uid()));
    let revisions = history::sorted(owned_revisions.cloned().collect());
    let collisions = set.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let current = history::current(&mut plan, set, &spec.template, collisions, &revisions, taken);
    if current.collided {
        let mut status = set.status.clone().unwrap_or_default();
        status.collision_count = Some(collisions + 1);
        plan.update_status(&DaemonSet { status: Some(status), ..set.clone() });
        return plan;
    }
    let hash = history::hash_of(&current.revision).to_owned();
    let claimed = owners::claim(set, &selector, inputs.pods.clone());
    owners::write_claim(&mut plan, set, &claimed);
    let mut by_node = ByNode::new();
    for pod in &claimed.owned {
        by_node.entry(target_node(pod).unwrap_or("")).or_default().push(pod);
    }
    by_node.values_mut().for_each(|pods| pods.sort_by_key(|pod| (created_at(&***pod), pod.name().to_owned())));

    let status = status::status(inputs, &by_node, &hash, now);
    if set.status.as_ref() != Some(&status) {
        plan.update_status(&DaemonSet { status: Some(status), ..set.clone() });
    }
    let mut work = manage(&mut plan, inputs, &by_node, &hash, now);
    let is_rolling = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete");
    if work.create_on.is_empty() && work.delete.is_empty() && is_rolling {
        work = update::rolling(inputs, &by_node, &hash, now);
    }
    write(&mut plan, set, &work, &hash);
    let in_use = |revision: &ControllerRevision| {
        revision.name() == current.revision.name()
            || claimed.owned.iter().any(|pod| hash_label(pod) == history::hash_of(revision))
    };
    history::truncate(&mut plan, &revisions, spec.revision_history_limit.unwrap_or(10), in_use);
    requeue_for_availability(&mut plan, &claimed.owned, spec.min_ready_seconds.unwrap_or(0), now);
    plan
}

fn write(plan: &mut Plan, set: &DaemonSet, work: &Work, hash: &str) {
    for node in &work.create_on {
        plan.create(&pod_for(set, node, hash))
            .then(PlannedEvent::normal(set, "SuccessfulCreate", "Created pod: {name}"))
            .on_failure(PlannedEvent::warning(set, "FailedCreate", "Error creating: "));
    }
    for pod in &work.delete {
        let message = format!("Deleted pod: {}", pod.name());
        plan.delete(&**pod).then(PlannedEvent::normal(set, "SuccessfulDelete", message));
    }
}

/// Nodes that lack a pod, and pods that must go.
fn manage(plan: &mut Plan, inputs: &Inputs, by_node: &ByNode, hash: &str, now: Timestamp) -> Work {
    let mut work = Work::default();
    let (surge, _) = update::limits(inputs);
    for node in &inputs.nodes {
        let (should_run, may_stay) = should_run(&inputs.set, node);
        let here = by_node.get(node.name()).map(Vec::as_slice).unwrap_or_default();
        if should_run && here.is_empty() {
            work.create_on.push(node.name().into());
        } else if may_stay {
            let running = sort_out_ended(plan, inputs, &mut work, here, now);
            if surge > 0
                && running.is_empty()
                && should_run
                && work.delete.iter().all(|pod| target_node(pod) != Some(node.name()))
            {
                work.create_on.push(node.name().into());
            }
            prune(inputs, &mut work, &running, surge > 0, hash, now);
        } else {
            work.delete.extend(here.iter().filter(|pod| !is_deleting(&****pod)).map(|pod| (*pod).clone()));
        }
    }
    // Pods bound to nodes that are gone are the pod garbage collector's; unbound ones are nobody else's.
    for (node, pods) in by_node {
        if !inputs.nodes.iter().any(|known| known.name() == *node) {
            let unbound = pods.iter().filter(|pod| pods::node_name(pod).is_empty() && !is_deleting(&****pod));
            work.delete.extend(unbound.map(|pod| (*pod).clone()));
        }
    }
    work
}

fn sort_out_ended<'a>(
    plan: &mut Plan,
    inputs: &Inputs,
    work: &mut Work,
    here: &[&'a Arc<Pod>],
    now: Timestamp,
) -> Vec<&'a Arc<Pod>> {
    let mut running = Vec::new();
    for pod in here.iter().filter(|pod| !is_deleting(&****pod)) {
        let node = target_node(pod).unwrap_or("");
        let found = |what: &str, verb: &str| {
            format!("Found {what} daemon pod {} on node {node}, will try to {verb} it", pod.key())
        };
        match pods::phase(pod) {
            "Failed" => match until(after_seconds(created_at(&***pod), FAILED_POD_SECONDS), now) {
                Some(wait) => plan.requeue_after(wait.max(Duration::from_millis(10))),
                None => {
                    plan.event(PlannedEvent::warning(&*inputs.set, "FailedDaemonPod", found("failed", "kill")));
                    work.delete.push((*pod).clone());
                }
            },
            "Succeeded" => {
                plan.event(PlannedEvent::normal(&*inputs.set, "SucceededDaemonPod", found("succeeded", "delete")));
                work.delete.push((*pod).clone());
            }
            _ => running.push(*pod),
        }
    }
    running
}

/// More than one pod on a node: the oldest stays; while surging one old available pod beside one new that is not yet.
fn prune(inputs: &Inputs, work: &mut Work, running: &[&Arc<Pod>], surges: bool, hash: &str, now: Timestamp) {
    if running.len() <= 1 {
        return;
    }
    if !surges {
        work.delete.extend(running[1..].iter().map(|pod| (*pod).clone()));
        return;
    }
    let min_ready = inputs.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let new = running.iter().find(|pod| hash_label(pod) == hash);
    let old = running.iter().find(|pod| hash_label(pod) != hash);
    let new_is_available = new.is_some_and(|pod| pods::is_available(pod, min_ready, now));
    let old_is_ready = old.is_some_and(|pod| pods::is_ready(pod));
    let keep_old = new.is_none() || old_is_ready && !new_is_available;
    for pod in running {
        let is_kept =
            new.is_some_and(|new| new.uid() == pod.uid()) || keep_old && old.is_some_and(|old| old.uid() == pod.uid());
        if !is_kept {
            work.delete.push((*pod).clone());
        }
    }
}
