//! One pass over a StatefulSet (upstream stateful_set_control.go `performUpdate`).

use std::{cmp::Reverse, sync::Arc};

use client::{
    Kind,
    kinds::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec},
    },
};
use jiff::Timestamp;

use super::{
    claims,
    identity::{has_identity, identify, ordinal_of, ordinals, pod, replicas, revision_of, start},
    status::{self, is_rolling, is_running_and_ready},
};
use crate::{
    plan::{Plan, PlannedEvent},
    replicaset::requeue_for_availability,
    shared::{history, is_deleting, owners, percent, pods, selector},
};

pub struct Inputs {
    pub set: Arc<StatefulSet>,
    /// Pods the set controls or could adopt.
    pub pods: Vec<Arc<Pod>>,
    /// The claims of its ordinals that exist.
    pub claims: Vec<Arc<PersistentVolumeClaim>>,
    pub revisions: Vec<Arc<ControllerRevision>>,
}

/// One pass's view: revisions chosen, pods sorted.
struct Pass<'a> {
    inputs: &'a Inputs,
    set: &'a StatefulSet,
    /// Name and template of the revision being left, and of the one being rolled out.
    current: (String, PodTemplateSpec),
    update: (String, PodTemplateSpec),
    owned: Vec<Arc<Pod>>,
    now: Timestamp,
    /// One pod at a time.
    is_ordered: bool,
}

pub fn plan(inputs: &Inputs, taken: impl Fn(&str) -> Option<Arc<ControllerRevision>>, now: Timestamp) -> Plan {
    let set = &*inputs.set;
    let mut plan = Plan::default();
    let spec = set.spec.clone().unwrap_or_default();
    let owned_revisions = inputs.revisions.iter().filter(|revision| owners::is_controlled_by(&***revision, set.uid()));
    let revisions = history::sorted(owned_revisions.cloned().collect());
    let before = set.status.clone().unwrap_or_default();
    let update =
        history::current(&mut plan, set, &spec.template, before.collision_count.unwrap_or(0), &revisions, taken);
    if update.collided {
        let mut status = before;
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
        plan.update_status(&StatefulSet { status: Some(status), ..set.clone() });
        return plan;
    }
    let in_status = before.current_revision.as_deref().unwrap_or("");
    let current = revisions.iter().find(|revision| revision.name() == in_status).unwrap_or(&update.revision);
    let current = (current.name().to_owned(), history::template_in(current).unwrap_or_else(|| spec.template.clone()));

    let selector = selector::compile(Some(&spec.selector));
    let members = inputs.pods.iter().filter(|pod| ordinal_of(set, pod).is_some()).cloned().collect();
    let claimed = owners::claim(set, &selector, members);
    owners::write_claim(&mut plan, set, &claimed);
    let pass = Pass {
        inputs,
        set,
        current,
        update: (update.revision.name().to_owned(), spec.template.clone()),
        owned: claimed.owned,
        now,
        is_ordered: spec.pod_management_policy.as_deref() != Some("Parallel"),
    };
    let status = status::status(set, &pass.owned, &pass.current.0, &pass.update.0, now);
    if set.status.as_ref() != Some(&status) {
        plan.update_status(&StatefulSet { status: Some(status), ..set.clone() });
    }
    if !is_deleting(set) {
        pass.run(&mut plan);
    }
    let in_use = |revision: &ControllerRevision| {
        let name = revision.name();
        name == pass.current.0 || name == pass.update.0 || pass.owned.iter().any(|pod| revision_of(pod) == name)
    };
    history::truncate(&mut plan, &revisions, spec.revision_history_limit.unwrap_or(10), in_use);
    requeue_for_availability(&mut plan, &pass.owned, spec.min_ready_seconds.unwrap_or(0), now);
    plan
}

/// Whether the pass goes on after a pod.
#[derive(PartialEq, Eq)]
enum Next {
    GoOn,
    Stop,
}

impl Pass<'_> {
    fn run(&self, plan: &mut Plan) {
        let find = |ordinal: i32| self.owned.iter().find(|pod| ordinal_of(self.set, pod) == Some(ordinal));
        for ordinal in ordinals(self.set) {
            let next = match find(ordinal) {
                None => self.create(plan, ordinal),
                Some(pod) => self.keep(plan, pod, ordinal),
            };
            if next == Next::Stop && self.is_ordered {
                return;
            }
        }
        let mut condemned: Vec<(i32, &Arc<Pod>)> = self
            .owned
            .iter()
            .filter_map(|pod| Some((ordinal_of(self.set, pod)?, pod)))
            .filter(|(ordinal, _)| !ordinals(self.set).contains(ordinal))
            .collect();
        condemned.sort_by_key(|(ordinal, _)| Reverse(*ordinal));
        for (ordinal, pod) in &condemned {
            claims::retain(plan, self.inputs, pod, *ordinal);
        }
        let first_unhealthy = self.first_unhealthy();
        for (_, pod) in &condemned {
            if self.condemn(plan, pod, first_unhealthy) == Next::Stop && self.is_ordered {
                return;
            }
        }
        if is_rolling(self.set) {
            self.roll(plan);
        }
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        is_running_and_ready(pod) && pods::is_available(pod, min_ready, self.now)
    }

    /// Healthy pods do not hold up a scale-down because of this one.
    fn first_unhealthy(&self) -> Option<&str> {
        let unhealthy = self.owned.iter().filter(|pod| !is_running_and_ready(pod) || is_deleting(&***pod));
        unhealthy.min_by_key(|pod| ordinal_of(self.set, pod)).map(|pod| pod.name())
    }

    /// Whether a missing pod comes back at the revision being left (`isCurrentRevisionNeeded`).
    fn is_left_at_current(&self, ordinal: i32) -> bool {
        if !is_rolling(self.set) {
            return false;
        }
        let current = self.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0);
        let limit = self.partition().unwrap_or(current);
        ordinal < start(self.set).saturating_add(limit)
    }

    fn partition(&self) -> Option<i32> {
        let strategy = self.set.spec.as_ref()?.update_strategy.as_ref()?;
        Some(strategy.rolling_update.as_ref()?.partition.unwrap_or(0))
    }

    fn create(&self, plan: &mut Plan, ordinal: i32) -> Next {
        if !claims::create_missing(plan, self.inputs, ordinal) {
            return Next::Stop;
        }
        let (revision, template) = if self.is_left_at_current(ordinal) { &self.current } else { &self.update };
        let set = self.set;
        let message = format!("create Pod {{name}} in StatefulSet {} successful", set.name());
        let failure = format!("create Pod {}-{ordinal} in StatefulSet {} failed error: ", set.name(), set.name());
        plan.create(&pod(set, template, revision, ordinal))
            .then(PlannedEvent::normal(set, "SuccessfulCreate", message))
            .on_failure(PlannedEvent::warning(set, "FailedCreate", failure));
        Next::Stop
    }

    fn delete(&self, plan: &mut Plan, pod: &Pod) {
        let message = format!("delete Pod {} in StatefulSet {} successful", pod.name(), self.set.name());
        plan.delete(pod).then(PlannedEvent::normal(self.set, "SuccessfulDelete", message));
    }

    fn keep(&self, plan: &mut Plan, pod: &Pod, ordinal: i32) -> Next {
        if pods::is_terminal(pod) {
            // The next one is made once this name is free.
            if !is_deleting(pod) {
                self.delete(plan, pod);
            }
            return Next::Stop;
        }
        if pods::phase(pod) == "Pending" {
            claims::create_missing(plan, self.inputs, ordinal);
        }
        if is_deleting(pod) || !is_running_and_ready(pod) || !self.is_available(pod) {
            return Next::Stop;
        }
        if !has_identity(self.set, pod, ordinal) {
            let mut fixed = pod.clone();
            identify(&mut fixed, self.set, ordinal);
            fixed.spec = pod.spec.clone();
            plan.update(&fixed);
        }
        claims::retain(plan, self.inputs, pod, ordinal);
        Next::GoOn
    }

    fn condemn(&self, plan: &mut Plan, pod: &Pod, first_unhealthy: Option<&str>) -> Next {
        if is_deleting(pod) {
            return Next::Stop;
        }
        let may_go = first_unhealthy == Some(pod.name()) || self.is_available(pod) || pods::is_terminal(pod);
        if self.is_ordered && !may_go {
            return Next::Stop;
        }
        self.delete(plan, pod);
        Next::Stop
    }

    /// Deletes outdated pods from the highest ordinal down to the partition, waiting for each to be healthy again
    /// (`updateStatefulSetAfterInvariantEstablished`).
    fn roll(&self, plan: &mut Plan) {
        let strategy = self.set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let max = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let max_unavailable = percent::scaled(max, replicas(self.set), true).max(1);
        let lowest = start(self.set).saturating_add(self.partition().unwrap_or(0));
        let find = |ordinal: i32| self.owned.iter().find(|pod| ordinal_of(self.set, pod) == Some(ordinal));
        let mut unavailable = 0;
        for ordinal in ordinals(self.set).rev().take_while(|ordinal| *ordinal >= lowest) {
            let Some(pod) = find(ordinal) else {
                unavailable += 1;
                continue;
            };
            if unavailable >= max_unavailable {
                return;
            }
            let is_outdated = revision_of(pod) != self.update.0;
            if is_outdated && !is_deleting(&**pod) {
                self.delete(plan, pod);
                unavailable += 1;
            } else if is_deleting(&**pod) || !self.is_available(pod) {
                unavailable += 1;
            }
        }
    }
}
