//! A Deployment's status and conditions (upstream progress.go and `calculateStatus` of sync.go).

use client::{
    Kind,
    apimachinery::pkg::apis::meta::v1::Time,
    kinds::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
};
use jiff::Timestamp;

use super::rollout::{Rollout, available, limits, replicas, size};
use crate::shared::after_seconds;

const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const COMPLETE: &str = "NewReplicaSetAvailable";
const PAUSED: &str = "DeploymentPaused";

/// progressDeadlineSeconds; the largest number stands for none (`HasProgressDeadline`).
fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).filter(|seconds| *seconds != i32::MAX)
}

fn get<'a>(status: &'a DeploymentStatus, name: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == name)
}

fn remove(status: &mut DeploymentStatus, name: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != name);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}

fn new_condition(name: &str, value: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: name.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

/// A condition with the same status and reason stays as it is.
fn set(status: &mut DeploymentStatus, mut condition: DeploymentCondition) {
    if let Some(old) = get(status, &condition.type_) {
        if old.status == condition.status && old.reason == condition.reason {
            return;
        }
        if old.status == condition.status {
            condition.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove(status, &condition.type_.clone());
    status.conditions.get_or_insert_default().push(condition);
}

/// Tells a pause and its end, so that paused time is not taken for lack of progress (`checkPausedConditions`).
pub fn paused_condition(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    let reason = get(status, PROGRESSING).and_then(|condition| condition.reason.clone()).unwrap_or_default();
    if deadline(deployment).is_none() || reason == TIMED_OUT {
        return;
    }
    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    if is_paused && reason != PAUSED {
        set(status, new_condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".into(), now));
    } else if !is_paused && reason == PAUSED {
        set(status, new_condition(PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now));
    }
}

/// The new set was created, or found without any condition telling of it.
pub fn new_set_condition(rollout: &Rollout, status: &mut DeploymentStatus, now: Timestamp) {
    let Some(new) = rollout.new.as_ref().filter(|_| deadline(rollout.deployment).is_some()) else {
        return;
    };
    if rollout.is_creation {
        let message = format!("Created new replica set {:?}", new.name());
        set(status, new_condition(PROGRESSING, "True", "NewReplicaSetCreated", message, now));
    } else if get(status, PROGRESSING).is_none() {
        let message = format!("Found new replica set {:?}", new.name());
        set(status, new_condition(PROGRESSING, "True", "FoundNewReplicaSet", message, now));
    }
}

/// Counts and the Available condition; other conditions are those of `base`.
pub fn calculate(rollout: &Rollout, base: &DeploymentStatus, now: Timestamp) -> DeploymentStatus {
    let deployment = rollout.deployment;
    let sum = |count: fn(&ReplicaSet) -> i32| -> i32 { rollout.all().map(count).sum() };
    let actual: fn(&ReplicaSet) -> i32 = |set| set.status.as_ref().map_or(0, |status| status.replicas);
    let ready: fn(&ReplicaSet) -> i32 = |set| set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let terminating = rollout.all().map(|set| set.status.as_ref().and_then(|status| status.terminating_replicas));
    let available_now = sum(available);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(sum(actual)),
        updated_replicas: some(rollout.new.as_ref().map_or(0, actual)),
        ready_replicas: some(sum(ready)),
        available_replicas: some(available_now),
        unavailable_replicas: some((sum(size) - available_now).max(0)),
        terminating_replicas: terminating.flatten().reduce(|a, b| a + b),
        collision_count: base.collision_count,
        conditions: base.conditions.clone(),
    };
    let condition = if available_now >= replicas(deployment) - limits(deployment).1 {
        let message = "Deployment has minimum availability.";
        new_condition("Available", "True", "MinimumReplicasAvailable", message.into(), now)
    } else {
        let message = "Deployment does not have minimum availability.";
        new_condition("Available", "False", "MinimumReplicasUnavailable", message.into(), now)
    };
    set(&mut status, condition);
    status
}

/// Counts of 0 are left out, as upstream writes them.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let total = replicas(deployment);
    status.updated_replicas.unwrap_or(0) == total
        && status.replicas.unwrap_or(0) == total
        && status.available_replicas.unwrap_or(0) == total
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let count = |value: Option<i32>| value.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(new.updated_replicas) > count(old.updated_replicas)
        || outdated(new) < outdated(old)
        || count(new.ready_replicas) > count(old.ready_replicas)
        || count(new.available_replicas) > count(old.available_replicas)
}

/// When the rollout has taken too long; `None` where that is not judged.
pub fn times_out_at(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let condition = get(status, PROGRESSING)?;
    if matches!(condition.reason.as_deref(), Some(COMPLETE | PAUSED)) {
        return None;
    }
    let since = condition.last_update_time.as_ref()?.0;
    Some(after_seconds(since, deadline(deployment)?.into()))
}

pub fn is_timed_out(status: &DeploymentStatus) -> bool {
    get(status, PROGRESSING).is_some_and(|condition| condition.reason.as_deref() == Some(TIMED_OUT))
}

/// The status during a rollout (`syncRolloutStatus`). `base` is the current status with the conditions set so far.
pub fn of_rollout(rollout: &Rollout, base: &DeploymentStatus, now: Timestamp) -> DeploymentStatus {
    let deployment = rollout.deployment;
    let mut status = calculate(rollout, base, now);
    let current = get(base, PROGRESSING).cloned();
    let has_reason = |reason| current.as_ref().is_some_and(|condition| condition.reason.as_deref() == Some(reason));
    let is_settled = status.replicas == status.updated_replicas && has_reason(COMPLETE);
    let what = match &rollout.new {
        Some(new) => format!("ReplicaSet {:?}", new.name()),
        None => format!("Deployment {:?}", deployment.name()),
    };
    if deadline(deployment).is_none() {
        remove(&mut status, PROGRESSING);
    } else if is_settled {
    } else if is_complete(deployment, &status) {
        let message = format!("{what} has successfully progressed.");
        set(&mut status, new_condition(PROGRESSING, "True", COMPLETE, message, now));
    } else if has_progressed(base, &status) {
        let mut condition =
            new_condition(PROGRESSING, "True", "ReplicaSetUpdated", format!("{what} is progressing."), now);
        if let Some(current) = current.as_ref().filter(|current| current.status == "True") {
            condition.last_transition_time = current.last_transition_time.clone();
        }
        remove(&mut status, PROGRESSING);
        set(&mut status, condition);
    } else if times_out_at(deployment, base).is_some_and(|at| at < now) {
        let message = format!("{what} has timed out progressing.");
        set(&mut status, new_condition(PROGRESSING, "False", TIMED_OUT, message, now));
    }
    match replica_failure(rollout) {
        Some(failure) => set(&mut status, failure),
        None => remove(&mut status, FAILURE),
    }
    status
}

/// A ReplicaSet's failure, the new one's before the others'.
fn replica_failure(rollout: &Rollout) -> Option<DeploymentCondition> {
    let sets = rollout.new.iter().chain(&rollout.old);
    let mut conditions =
        sets.filter_map(|set| set.status.as_ref()).flat_map(|status| status.conditions.iter().flatten());
    let failure = conditions.find(|condition| condition.type_ == FAILURE)?;
    Some(DeploymentCondition {
        type_: FAILURE.into(),
        status: failure.status.clone(),
        reason: failure.reason.clone(),
        message: failure.message.clone(),
        last_transition_time: failure.last_transition_time.clone(),
        last_update_time: failure.last_transition_time.clone(),
    })
}
