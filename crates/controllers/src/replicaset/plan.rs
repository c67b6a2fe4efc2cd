//! What one ReplicaSet needs: pods created or deleted, and its status (upstream replica_set.go `syncReplicaSet`).

use std::{collections::HashMap, sync::Arc};

use client::{Kind, kinds::core::v1::Pod};
use jiff::Timestamp;

use super::{Replicas, Status};
use crate::{
    plan::{Plan, PlannedEvent},
    runtime::Context,
    shared::{is_deleting, owners, pods, selector, template, until},
};

/// Most pods created or deleted in one pass (upstream BurstReplicas).
const BURST: usize = 500;

pub struct Inputs<O> {
    pub owner: Arc<O>,
    /// What the owner controls or could adopt.
    pub pods: Vec<Arc<Pod>>,
    /// Pods of all sets with the same controller: they say how crowded a node is.
    pub related: Vec<Arc<Pod>>,
}

pub fn plan<O: Replicas>(inputs: &Inputs<O>, context: &Context) -> Plan {
    let owner = &*inputs.owner;
    let mut plan = Plan::default();
    let (active, inactive): (Vec<_>, Vec<_>) = inputs.pods.iter().cloned().partition(|pod| pods::is_active(pod));
    let claimed = owners::claim(owner, &owner.selector(), active);
    owners::write_claim(&mut plan, owner, &claimed);
    let terminating =
        inactive.iter().filter(|pod| pods::is_terminating(pod) && owners::is_controlled_by(&***pod, owner.uid()));

    let missing = i64::from(owner.replicas()) - claimed.owned.len() as i64;
    let status = status(owner, &claimed.owned, terminating.count() as i32, missing, context);
    // The status goes first: a write that fails every time must not keep it from being told.
    if status != owner.status() {
        plan.update_status(&owner.with_status(&status, context.now));
    }
    if !is_deleting(owner) {
        match missing {
            1.. => create(&mut plan, owner, (missing as usize).min(BURST)),
            ..0 => delete(&mut plan, owner, &claimed.owned, &inputs.related, (-missing) as usize),
            0 => {}
        }
    }
    requeue_for_availability(&mut plan, &claimed.owned, owner.min_ready_seconds(), context.now);
    plan
}

fn create<O: Replicas>(plan: &mut Plan, owner: &O, count: usize) {
    let pod = template::pod(owner, owners::controller_ref(owner), &owner.template());
    for _ in 0..count {
        plan.create(&pod)
            .then(PlannedEvent::normal(owner, "SuccessfulCreate", "Created pod: {name}"))
            .on_failure(PlannedEvent::warning(owner, "FailedCreate", "Error creating: "));
    }
}

fn delete<O: Replicas>(plan: &mut Plan, owner: &O, owned: &[Arc<Pod>], related: &[Arc<Pod>], surplus: usize) {
    let mut crowd: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pods::is_active(pod)) {
        *crowd.entry(pods::node_name(pod)).or_default() += 1;
    }
    let rank = |pod: &Pod| crowd.get(pods::node_name(pod)).copied().unwrap_or(0);
    let mut order: Vec<&Arc<Pod>> = owned.iter().collect();
    order.sort_by(|a, b| pods::delete_first((a, rank(a)), (b, rank(b))));
    for pod in order.into_iter().take(surplus.min(BURST)) {
        plan.delete(&**pod)
            .then(PlannedEvent::normal(owner, "SuccessfulDelete", format!("Deleted pod: {}", pod.name())))
            .on_failure(PlannedEvent::warning(owner, "FailedDelete", "Error deleting: "));
    }
}

fn status<O: Replicas>(owner: &O, owned: &[Arc<Pod>], terminating: i32, missing: i64, context: &Context) -> Status {
    let template_labels = template::some(owner.template().metadata.and_then(|meta| meta.labels).unwrap_or_default());
    let from_template = match &template_labels {
        Some(_) => selector::exact(template_labels.as_ref()),
        None => api::selector::LabelSelector::everything(),
    };
    let count = |holds: &dyn Fn(&Pod) -> bool| owned.iter().filter(|pod| holds(pod)).count() as i32;
    let failure = context.failure.as_ref().filter(|failure| failure.kind == "Pod" && missing != 0);
    let failure = failure.and_then(|failure| match (failure.verb, missing > 0) {
        ("create", true) => Some(("FailedCreate".to_owned(), failure.message.clone())),
        ("delete", false) => Some(("FailedDelete".to_owned(), failure.message.clone())),
        _ => None,
    });
    // The first failure's text stays while it goes on, as upstream's: each attempt names another pod, and a status that changed
    // with each would start the next at once.
    let failure = failure.map(|new| owner.status().failure.unwrap_or(new));
    Status {
        replicas: owned.len() as i32,
        fully_labeled: count(&|pod| selector::matches(&from_template, pod)),
        ready: count(&|pod| pods::is_ready(pod)),
        available: count(&|pod| pods::is_available(pod, owner.min_ready_seconds(), context.now)),
        terminating: O::COUNTS_TERMINATING.then_some(terminating),
        observed_generation: owner.meta().generation.unwrap_or(0),
        failure,
    }
}

/// Nothing changes when a ready pod's waiting time is over: look again then.
pub fn requeue_for_availability(plan: &mut Plan, owned: &[Arc<Pod>], min_ready_seconds: i32, now: Timestamp) {
    if min_ready_seconds > 0 {
        let waits = owned.iter().filter_map(|pod| until(pods::available_at(pod, min_ready_seconds)?, now));
        if let Some(first) = waits.min() {
            plan.requeue_after(first);
        }
    }
}
