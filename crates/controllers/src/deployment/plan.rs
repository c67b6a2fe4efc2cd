//! One pass over a Deployment (upstream deployment_controller.go `syncDeployment`).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use client::{
    Kind, PatchKind,
    kinds::apps::v1::{Deployment, DeploymentStatus, ReplicaSet},
};
use jiff::Timestamp;
use serde_json::json;

use super::{
    rolling,
    rollout::{REVISION, Rollout, desired_annotation, is_rolling, replicas, size},
    status,
};
use crate::{
    plan::Plan,
    shared::{annotation, is_deleting, owners, selector, until},
};

pub struct Inputs {
    pub deployment: Arc<Deployment>,
    /// The ReplicaSets the Deployment controls or could adopt.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// UIDs of those with pods that have not ended.
    pub running: BTreeSet<String>,
    /// Whatever has the name the next ReplicaSet would get.
    pub taken: Option<Arc<ReplicaSet>>,
}

pub fn plan(inputs: &Inputs, now: Timestamp) -> Plan {
    let deployment = &*inputs.deployment;
    let mut plan = Plan::default();
    let selector = selector::compile(deployment.spec.as_ref().map(|spec| &spec.selector));
    let claimed = owners::claim(deployment, &selector, inputs.sets.clone());
    owners::write_claim(&mut plan, deployment, &claimed);
    let mut rollout = Rollout::new(deployment, &claimed.owned);
    let mut base = deployment.status.clone().unwrap_or_default();
    status::paused_condition(deployment, &mut base, now);

    let is_paused = deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true);
    if is_deleting(deployment) {
        let status = status::calculate(&rollout, &base, now);
        finish(&mut plan, &rollout, status, now);
        return plan;
    }
    if is_paused || is_scaling(&rollout) {
        rollout.annotate_new();
        rolling::scale(&mut rollout);
        if is_paused {
            rollout.clean_up(&mut plan);
        }
        let status = status::calculate(&rollout, &base, now);
        finish(&mut plan, &rollout, status, now);
        return plan;
    }
    let may_create = is_rolling(deployment) || retire_old(&mut rollout, inputs);
    if rollout.new.is_none() && may_create {
        if let Some(taken) = &inputs.taken {
            collide(&mut plan, deployment, base, taken);
            return plan;
        }
        let count = rolling::new_size(&rollout);
        rollout.create_new(count);
    } else {
        rollout.annotate_new();
        if is_rolling(deployment) {
            rolling::step(&mut rollout);
        } else if may_create {
            rollout.scale_new(replicas(deployment));
        }
    }
    status::new_set_condition(&rollout, &mut base, now);
    if deployment.status.as_ref().is_some_and(|status| status::is_complete(deployment, status)) {
        rollout.clean_up(&mut plan);
    }
    let status = status::of_rollout(&rollout, &base, now);
    finish(&mut plan, &rollout, status, now);
    plan
}

/// Whether spec.replicas changed since the active sets were scaled.
fn is_scaling(rollout: &Rollout) -> bool {
    let total = replicas(rollout.deployment);
    rollout.all().filter(|set| size(set) > 0).any(|set| desired_annotation(set).is_some_and(|desired| desired != total))
}

/// Scales every old set to 0; true once none of their pods runs any more.
fn retire_old(rollout: &mut Rollout, inputs: &Inputs) -> bool {
    let deployment = rollout.deployment;
    let mut is_retired = true;
    for set in &mut rollout.old {
        is_retired &= size(set) == 0 && !inputs.running.contains(set.uid());
        Rollout::scale(deployment, set, 0, false);
    }
    is_retired
}

/// The name is another template's or another owner's: the next hash will differ. (A set of ours with our template would
/// have been found; its informer may lag, which the next pass settles.)
fn collide(plan: &mut Plan, deployment: &Deployment, mut status: DeploymentStatus, taken: &ReplicaSet) {
    if is_deleting(taken) && owners::is_controlled_by(taken, deployment.uid()) {
        plan.requeue_after(Duration::from_millis(100));
        return;
    }
    status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    plan.update_status(&Deployment { status: Some(status), ..deployment.clone() });
}

/// The writes: ReplicaSets, then the status, then the revision (a patch, as the status write moves the
/// resourceVersion).
fn finish(plan: &mut Plan, rollout: &Rollout, status: DeploymentStatus, now: Timestamp) {
    let deployment = rollout.deployment;
    rollout.write(plan);
    if deployment.status.as_ref() != Some(&status) {
        plan.update_status(&Deployment { status: Some(status), ..deployment.clone() });
    } else if !status::is_complete(deployment, &status)
        && !status::is_timed_out(&status)
        && let Some(at) = status::times_out_at(deployment, &status)
    {
        let left = until(at, now).unwrap_or_default();
        plan.requeue_after(left + Duration::from_secs(1));
    }
    let revision = rollout.new.as_ref().map_or("", |new| annotation(new, REVISION));
    if !revision.is_empty() && annotation(deployment, REVISION) != revision && !is_deleting(deployment) {
        let patch = json!({"metadata": {"uid": deployment.uid(), "annotations": {REVISION: revision}}});
        plan.patch(deployment, PatchKind::Merge, &patch);
    }
}
