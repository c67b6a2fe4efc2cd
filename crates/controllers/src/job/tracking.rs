//! Counting ended pods, and the Job's end (upstream job_controller.go `trackJobStatusAndRemoveFinalizers`).

use std::{collections::BTreeSet, sync::Arc};

use client::{
    Kind,
    kinds::{batch::v1::UncountedTerminatedPods, core::v1::Pod},
};

use super::{
    conditions,
    manage::delayed,
    plan::Pass,
    policy::{Verdict, is_failed, judge},
};
use crate::{
    plan::{Plan, PlannedEvent},
    shared::{is_deleting, pods},
};

/// Pods put among the uncounted in one pass, so that the status stays small.
const MAX_UNCOUNTED: usize = 500;

/// Brings the status up to date; gives back the pods whose finalizer goes once it is written.
pub fn track(pass: &mut Pass, plan: &mut Plan) -> Vec<Arc<Pod>> {
    let tracked: BTreeSet<&str> = pass.pods.iter().filter(|pod| Pass::is_tracked(pod)).map(|pod| pod.uid()).collect();
    let mut uncounted = pass.status.uncounted_terminated_pods.clone().unwrap_or_default();
    let count = |uids: &mut Option<Vec<String>>, counter: &mut Option<i32>| {
        let (rest, counted): (Vec<_>, Vec<_>) =
            uids.take().unwrap_or_default().into_iter().partition(|uid| tracked.contains(uid.as_str()));
        if !counted.is_empty() {
            *counter = Some(counter.unwrap_or(0) + counted.len() as i32);
        }
        *uids = (!rest.is_empty()).then_some(rest);
    };
    count(&mut uncounted.succeeded, &mut pass.status.succeeded);
    count(&mut uncounted.failed, &mut pass.status.failed);

    let (release, is_all) = collect(pass, &mut uncounted);
    let is_settled = uncounted == UncountedTerminatedPods::default() && release.is_empty();
    pass.status.uncounted_terminated_pods = Some(uncounted);
    write_indexes(pass);
    announce(pass);
    if is_settled && is_all {
        finish(pass, plan);
    }
    release
}

/// Puts ended pods among the uncounted; false where there were too many.
fn collect(pass: &Pass, uncounted: &mut UncountedTerminatedPods) -> (Vec<Arc<Pod>>, bool) {
    let held = delayed(pass);
    let has = |list: &Option<Vec<String>>, uid: &str| list.iter().flatten().any(|known| known == uid);
    let met_success = pass.finished.as_ref().is_some_and(|condition| condition.type_ == conditions::SUCCESS_MET);
    let mut release = Vec::new();
    for pod in pass.pods.iter().filter(|pod| Pass::is_tracked(pod)) {
        let uid = pod.uid();
        let has_failed = is_failed(pod, pass.job);
        let is_over = is_deleting(pass.job) || pass.finished.is_some() || pods::phase(pod) == "Succeeded";
        let is_held = pass.index_of(pod).and_then(|index| held.get(&index)).is_some_and(|held| held.uid() == uid);
        if !(is_over || has_failed && !is_held) {
            continue;
        }
        release.push(pod.clone());
        let counts = !pass.is_indexed() || pass.index_of(pod).is_some();
        if pods::phase(pod) == "Succeeded" && !has(&uncounted.failed, uid) {
            if !pass.is_indexed() && !has(&uncounted.succeeded, uid) {
                uncounted.succeeded.get_or_insert_default().push(uid.into());
            }
        } else if (has_failed || pass.finished.is_some() && !met_success)
            && !has(&uncounted.failed, uid)
            && counts
            && judge(pass.job, pod) != Verdict::Ignore
        {
            uncounted.failed.get_or_insert_default().push(uid.into());
        }
        if release.len() >= MAX_UNCOUNTED {
            return (release, false);
        }
    }
    (release, true)
}

fn write_indexes(pass: &mut Pass) {
    if let Some(indexes) = &pass.succeeded_indexes {
        pass.status.succeeded = Some(indexes.total()).filter(|total| *total != 0);
        pass.status.completed_indexes = Some(indexes.to_string()).filter(|text| !text.is_empty());
        pass.status.failed_indexes = pass.failed_indexes.as_ref().map(ToString::to_string);
    }
}

/// Says that the end is near before any finalizer is removed.
fn announce(pass: &mut Pass) {
    if let Some(condition) = pass.finished.clone()
        && conditions::find(&pass.status, &condition.type_).is_none()
    {
        pass.status.conditions.get_or_insert_default().push(condition);
    }
}

/// The terminal condition, once every pod has ended and is counted.
fn finish(pass: &mut Pass, plan: &mut Plan) {
    let Some(condition) = pass.finished.clone() else {
        return;
    };
    if pass.status.terminating.unwrap_or(0) > 0 || !pass.active.is_empty() {
        return;
    }
    let (reason, message) = (condition.reason.unwrap_or_default(), condition.message.unwrap_or_default());
    let is_success = condition.type_ == conditions::SUCCESS_MET;
    let name = if is_success { conditions::COMPLETE } else { conditions::FAILED };
    let end = conditions::new(name, "True", &reason, message.clone(), pass.now);
    if is_success {
        pass.status.completion_time = end.last_transition_time.clone();
        plan.event(PlannedEvent::normal(pass.job, "Completed", "Job completed"));
    } else {
        let reason = match reason.as_str() {
            "BackoffLimitExceeded" => "BackoffLimitExceeded",
            "DeadlineExceeded" => "DeadlineExceeded",
            "PodFailurePolicy" => "PodFailurePolicy",
            "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
            "FailedIndexes" => "FailedIndexes",
            _ => "Failed",
        };
        plan.event(PlannedEvent::warning(pass.job, reason, message));
    }
    conditions::ensure(&mut pass.status, end);
}
