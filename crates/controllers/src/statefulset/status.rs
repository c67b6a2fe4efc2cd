//! A StatefulSet's counts and revisions (upstream stateful_set_control.go `updateStatus`, `completeRollingUpdate`).

use std::sync::Arc;

use client::kinds::{
    apps::v1::{StatefulSet, StatefulSetStatus},
    core::v1::Pod,
};
use jiff::Timestamp;

use super::identity::{replicas, revision_of};
use crate::shared::{is_deleting, pods};

pub fn is_running_and_ready(pod: &Pod) -> bool {
    pods::phase(pod) == "Running" && pods::is_ready(pod)
}

pub fn is_rolling(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
}

/// `current` and `update` are revision names.
pub fn status(set: &StatefulSet, owned: &[Arc<Pod>], current: &str, update: &str, now: Timestamp) -> StatefulSetStatus {
    let before = set.status.clone().unwrap_or_default();
    let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    let count = |holds: &dyn Fn(&Pod) -> bool| owned.iter().filter(|pod| holds(pod)).count() as i32;
    let of = |revision: &str| count(&|pod| !is_deleting(pod) && revision_of(pod) == revision);
    let mut current = current.to_owned();
    let mut current_replicas = of(&current);
    let updated = of(update);
    let total = owned.len() as i32;
    let ready = count(&|pod| is_running_and_ready(pod));
    let is_complete = is_rolling(set) && updated == replicas(set) && total == updated && ready == total;
    if is_complete && current != update {
        current = update.to_owned();
        current_replicas = updated;
    }
    StatefulSetStatus {
        observed_generation: set.metadata.generation,
        replicas: total,
        ready_replicas: Some(ready).filter(|count| *count != 0),
        available_replicas: Some(count(&|pod| is_running_and_ready(pod) && pods::is_available(pod, min_ready, now))),
        current_replicas: Some(current_replicas).filter(|count| *count != 0),
        updated_replicas: Some(updated).filter(|count| *count != 0),
        current_revision: Some(current),
        update_revision: Some(update.to_owned()),
        collision_count: Some(before.collision_count.unwrap_or(0)),
        conditions: before.conditions,
    }
}
