//! Facts about pods (upstream pkg/api/v1/pod and controller_utils.go).

use std::cmp::Ordering;

use client::{
    Kind,
    kinds::core::v1::{Pod, PodCondition},
};
use jiff::Timestamp;

use super::{after_seconds, created_at, is_deleting};

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("")
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("")
}

/// Succeeded or Failed.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_deleting(pod)
}

/// Being deleted, but not finished yet.
pub fn is_terminating(pod: &Pod) -> bool {
    !is_terminal(pod) && is_deleting(pod)
}

pub fn condition<'a>(pod: &'a Pod, name: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == name)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|condition| condition.status == "True")
}

fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|condition| condition.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Ready for `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
}

/// When a ready pod is or becomes available.
pub fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    match min_ready_seconds {
        0 => is_ready(pod).then_some(Timestamp::MIN),
        seconds => ready_since(pod).map(|since| after_seconds(since, seconds.into())),
    }
}

/// All containers' restarts, of the one that restarted most (upstream `maxContainerRestarts`).
fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).max().unwrap_or(0)
}

/// Which of two pods to delete first (upstream `ActivePodsWithRanks.Less`); `rank` is how many pods of the same owner
/// stand on the pod's node.
pub fn delete_first(a: (&Pod, usize), b: (&Pod, usize)) -> Ordering {
    let ((a, a_rank), (b, b_rank)) = (a, b);
    let unassigned = |pod| !node_name(pod).is_empty();
    let phase_order = |pod| match phase(pod) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let newest_first = |a: Timestamp, b: Timestamp| b.cmp(&a);
    unassigned(a)
        .cmp(&unassigned(b))
        .then_with(|| phase_order(a).cmp(&phase_order(b)))
        .then_with(|| is_ready(a).cmp(&is_ready(b)))
        .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
        .then_with(|| b_rank.cmp(&a_rank))
        .then_with(|| match (ready_since(a), ready_since(b)) {
            (Some(a), Some(b)) => newest_first(a, b),
            _ => Ordering::Equal,
        })
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| newest_first(created_at(a), created_at(b)))
        .then_with(|| a.name().cmp(b.name()))
}

fn deletion_cost(pod: &Pod) -> i32 {
    super::annotation(pod, "controller.kubernetes.io/pod-deletion-cost").parse().unwrap_or(0)
}
