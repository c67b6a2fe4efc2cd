//! How many pods a Job runs now, and which indexes (upstream job_controller.go `manageJob`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use client::{Kind, kinds::core::v1::Pod};
use jiff::{SignedDuration, Timestamp};

use super::{
    plan::{Pass, remove_finalizer},
    pods::{finished_at, index, index_failures, new_pod},
    policy::{is_failed, judge, replaces_only_failed},
};
use crate::{
    plan::{Plan, PlannedEvent},
    shared::{pods, until},
};

/// Most pods created or deleted in one pass.
const BURST: usize = 500;
const BACKOFF_SECONDS: i64 = 10;
const BACKOFF_SECONDS_MAX: i64 = 600;

pub fn manage(pass: &mut Pass, plan: &mut Plan) {
    let active = pass.active.len() as i32;
    let ready = |pods: &[Arc<Pod>]| pods.iter().filter(|pod| pods::is_ready(pod)).count() as i32;
    let wanted = wanted(pass, active);
    let surplus = surplus(pass, (active - wanted).max(0) as usize);
    let all_ready = ready(&pass.active);
    if !surplus.is_empty() {
        for pod in &surplus {
            // Without the finalizer it vanishes uncounted: stopping it is no failure of the Job's.
            if Pass::is_tracked(pod) {
                remove_finalizer(plan, pod);
            }
            let message = format!("Deleted pod: {}", pod.name());
            plan.delete(&**pod).then(PlannedEvent::normal(pass.job, "SuccessfulDelete", message));
        }
        let removed = surplus.len() as i32;
        pass.set_counts(active - removed, all_ready - ready(&surplus), removed);
        return;
    }
    pass.set_counts(active, all_ready, 0);
    let terminating = if replaces_only_failed(pass.job) { pass.status.terminating.unwrap_or(0) } else { 0 };
    let missing = usize::try_from(wanted - terminating - active).unwrap_or(0).min(BURST);
    if missing > 0 && !pass.is_suspended() {
        let created = create(pass, plan, missing);
        pass.set_counts(active + created, all_ready, 0);
    }
}

fn wanted(pass: &Pass, active: i32) -> i32 {
    let parallelism = pass.spec.parallelism.unwrap_or(1);
    if pass.is_suspended() {
        return 0;
    }
    match pass.spec.completions {
        None if pass.succeeded > 0 => active,
        None => parallelism,
        Some(completions) => {
            let failed = pass.failed_indexes.as_ref().map_or(0, super::Indexes::total);
            (completions - pass.succeeded - failed).clamp(0, parallelism)
        }
    }
}

/// The active pods to delete: those with no or a doubled index first, then whatever is cheapest to lose.
fn surplus(pass: &Pass, at_least: usize) -> Vec<Arc<Pod>> {
    let mut remove: Vec<Arc<Pod>> = Vec::new();
    let mut left: Vec<&Arc<Pod>> = pass.active.iter().collect();
    if pass.is_indexed() && !pass.is_suspended() {
        let mut seen = BTreeSet::new();
        left.sort_by_key(|pod| (pass.index_of(pod), pods::phase(pod) != "Running", pod.name().to_owned()));
        let mut is_extra = |pod: &Arc<Pod>| match pass.index_of(pod) {
            Some(index) => pass.succeeded_indexes.as_ref().is_some_and(|done| done.has(index)) || !seen.insert(index),
            None => true,
        };
        let (extra, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|pod| is_extra(pod));
        remove.extend(extra.into_iter().cloned());
        left = rest;
    }
    left.sort_by(|a, b| pods::delete_first((a, 0), (b, 0)));
    let more = at_least.saturating_sub(remove.len());
    remove.extend(left.into_iter().take(more).cloned());
    remove.truncate(BURST);
    remove
}

/// Creates up to `count` pods; fewer where failures ask for patience.
fn create(pass: &Pass, plan: &mut Plan, count: usize) -> i32 {
    let counts_per_index = pass.spec.backoff_limit_per_index.is_some();
    if !counts_per_index && let Some(wait) = backoff(pass) {
        plan.requeue_after(wait);
        return 0;
    }
    let mut new = Vec::new();
    if pass.is_indexed() {
        let held = delayed(pass);
        for index in pending(pass, count) {
            let failed = held.get(&index);
            if let Some(wait) =
                failed.and_then(|pod| until(retry_at(finished_at(pod), index_failures(pod) + 1), pass.now))
            {
                plan.requeue_after(wait);
                continue;
            }
            let failed = failed.map(|pod| (&***pod, judge(pass.job, pod)));
            new.push(new_pod(pass.job, Some(index), counts_per_index, failed));
        }
    } else {
        new.extend((0..count).map(|_| new_pod(pass.job, None, false, None)));
    }
    for pod in &new {
        plan.create(pod)
            .then(PlannedEvent::normal(pass.job, "SuccessfulCreate", "Created pod: {name}"))
            .on_failure(PlannedEvent::warning(pass.job, "FailedCreate", "Error creating: "));
    }
    new.len() as i32
}

/// 10 s, 20 s, 40 s … after each failure in a row, at most 10 min.
fn retry_at(last_failure: Timestamp, failures: i32) -> Timestamp {
    let doublings = u32::try_from(failures - 1).unwrap_or(0).min(10);
    let seconds = (BACKOFF_SECONDS << doublings).min(BACKOFF_SECONDS_MAX);
    last_failure.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// How long to wait for the failures since the last success (backoff_utils.go, from the pods instead of from memory).
fn backoff(pass: &Pass) -> Option<Duration> {
    let last_success = pass.pods.iter().filter(|pod| pods::phase(pod) == "Succeeded").map(|pod| finished_at(pod)).max();
    let failures = pass.pods.iter().filter(|pod| is_failed(pod, pass.job)).map(|pod| finished_at(pod));
    let since: Vec<Timestamp> = failures.filter(|at| last_success.is_none_or(|success| *at > success)).collect();
    let last = since.iter().max()?;
    until(retry_at(*last, since.len() as i32), pass.now)
}

/// The lowest indexes that neither run nor are done.
fn pending(pass: &Pass, count: usize) -> Vec<i32> {
    let waits_for_terminating = replaces_only_failed(pass.job);
    let is_busy = |pod: &&Arc<Pod>| pods::is_active(pod) || waits_for_terminating && pods::is_terminating(pod);
    let busy: BTreeSet<i32> = pass.pods.iter().filter(is_busy).filter_map(|pod| index(pod)).collect();
    let is_done = |index: &i32| {
        [&pass.succeeded_indexes, &pass.failed_indexes].into_iter().flatten().any(|indexes| indexes.has(*index))
    };
    (0..pass.completions()).filter(|index| !busy.contains(index) && !is_done(index)).take(count).collect()
}

/// With backoffLimitPerIndex: each index's last failed pod, which keeps its finalizer until its replacement, told its
/// failures, is there (indexed_job_utils.go `getPodsWithDelayedDeletionPerIndex`).
pub fn delayed<'a>(pass: &'a Pass) -> BTreeMap<i32, &'a Arc<Pod>> {
    let mut held: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
    let Some(failed) = pass.failed_indexes.as_ref().filter(|_| pass.finished.is_none()) else {
        return held;
    };
    let running: BTreeSet<i32> = pass.active.iter().filter_map(|pod| index(pod)).collect();
    for pod in pass.pods.iter().filter(|pod| Pass::is_tracked(pod) && is_failed(pod, pass.job)) {
        let Some(index) = pass.index_of(pod) else {
            continue;
        };
        let is_settled = failed.has(index)
            || running.contains(&index)
            || pass.succeeded_indexes.as_ref().is_some_and(|done| done.has(index));
        if is_settled {
            continue;
        }
        let newest = held.entry(index).or_insert(pod);
        if index_failures(pod) > index_failures(newest) {
            *newest = pod;
        }
    }
    held
}
