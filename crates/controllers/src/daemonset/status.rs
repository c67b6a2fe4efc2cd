//! A DaemonSet's counts (upstream daemon_controller.go `updateDaemonSetStatus`).

use client::{Kind, kinds::apps::v1::DaemonSetStatus};
use jiff::Timestamp;

use super::{
    plan::{ByNode, Inputs, hash_label},
    pod::should_run,
};
use crate::shared::pods;

pub fn status(inputs: &Inputs, by_node: &ByNode, hash: &str, now: Timestamp) -> DaemonSetStatus {
    let min_ready = inputs.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let before = inputs.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        collision_count: before.collision_count,
        conditions: before.conditions,
        observed_generation: inputs.set.metadata.generation,
        ..DaemonSetStatus::default()
    };
    let (mut available, mut updated) = (0, 0);
    for node in &inputs.nodes {
        let here = by_node.get(node.name()).map(Vec::as_slice).unwrap_or_default();
        if !should_run(&inputs.set, node).0 {
            status.number_misscheduled += i32::from(!here.is_empty());
            continue;
        }
        status.desired_number_scheduled += 1;
        if here.is_empty() {
            continue;
        }
        status.current_number_scheduled += 1;
        // While surging, the pod that serves is the one that counts.
        let ready = here.iter().find(|pod| pods::is_ready(pod));
        status.number_ready += i32::from(ready.is_some());
        available += i32::from(here.iter().any(|pod| pods::is_available(pod, min_ready, now)));
        let newest = here.iter().rev().find(|pod| !crate::shared::is_deleting(&****pod)).or(here.last());
        updated += i32::from(newest.is_some_and(|pod| hash_label(pod) == hash));
    }
    let some = |count: i32| (count != 0).then_some(count);
    status.number_available = some(available);
    status.number_unavailable = some(status.desired_number_scheduled - available);
    status.updated_number_scheduled = some(updated);
    status
}
