//! One pass over a Job (upstream job_controller.go `syncJob`).
//!
//! Pods are counted without losing or doubling any, in steps that each end in a status write: a finished pod is put among
//! `uncountedTerminatedPods`, then loses its finalizer; once the informer shows it without, it moves into the counters.

use std::{collections::BTreeSet, sync::Arc};

use client::{
    Kind, PatchKind,
    apimachinery::pkg::apis::meta::v1::Time,
    kinds::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus},
        core::v1::Pod,
    },
};
use jiff::Timestamp;
use serde_json::json;

use super::{
    Indexes, TRACKING, conditions, manage,
    pods::{index, index_failures},
    policy::{self, Verdict, is_failed, judge},
    tracking,
};
use crate::{
    plan::{Plan, PlannedEvent},
    shared::{after_seconds, has_finalizer, is_deleting, owners, pods, selector, until},
};

pub struct Inputs {
    pub job: Arc<Job>,
    /// Pods the Job controls or could adopt.
    pub pods: Vec<Arc<Pod>>,
    /// Pods with the finalizer that were an earlier Job's of this name, or have lost their owner.
    pub orphans: Vec<Arc<Pod>>,
}

/// What one pass knows and decides.
pub struct Pass<'a> {
    pub job: &'a Job,
    pub spec: JobSpec,
    pub now: Timestamp,
    pub pods: Vec<Arc<Pod>>,
    pub active: Vec<Arc<Pod>>,
    /// The status as it will be written.
    pub status: JobStatus,
    pub succeeded: i32,
    pub failed: i32,
    /// Of an Indexed Job.
    pub succeeded_indexes: Option<Indexes>,
    /// Of an Indexed Job with backoffLimitPerIndex.
    pub failed_indexes: Option<Indexes>,
    /// Why the Job is over.
    pub finished: Option<JobCondition>,
}

pub fn remove_finalizer(plan: &mut Plan, pod: &Pod) {
    let patch = json!({"metadata": {"uid": pod.uid(), "$deleteFromPrimitiveList/finalizers": [TRACKING]}});
    plan.patch(pod, PatchKind::Strategic, &patch).ignore_not_found();
}

/// The Job is gone: nobody counts these pods any more.
pub fn plan_orphans(pods: &[Arc<Pod>]) -> Plan {
    let mut plan = Plan::default();
    pods.iter().for_each(|pod| remove_finalizer(&mut plan, pod));
    plan
}

pub fn plan(inputs: &Inputs, now: Timestamp) -> Plan {
    let job = &*inputs.job;
    let spec = job.spec.clone().unwrap_or_default();
    if spec.managed_by.as_deref().is_some_and(|manager| manager != "kubernetes.io/job-controller") {
        return Plan::default();
    }
    let mut plan = plan_orphans(&inputs.orphans);
    let claimed = owners::claim(job, &selector::compile(spec.selector.as_ref()), inputs.pods.clone());
    if conditions::is_finished(job) {
        let tracked = claimed.owned.iter().filter(|pod| has_finalizer(&***pod, TRACKING));
        tracked.for_each(|pod| remove_finalizer(&mut plan, pod));
        return plan;
    }
    write_claim(&mut plan, job, &claimed);
    let mut pass = Pass::new(job, spec, claimed.owned, now);
    pass.decide(&mut plan);
    let before = job.status.clone().unwrap_or_default();
    if pass.finished.is_some() {
        pass.delete_active(&mut plan);
    } else if !is_deleting(job) {
        manage::manage(&mut pass, &mut plan);
        pass.complete_or_suspend(&mut plan);
    }
    let finalizers = tracking::track(&mut pass, &mut plan);
    if before != pass.status {
        plan.update_status(&Job { status: Some(pass.status), ..job.clone() });
    }
    finalizers.iter().for_each(|pod| remove_finalizer(&mut plan, pod));
    plan
}

/// Adopted pods get the finalizer along with the owner.
fn write_claim(plan: &mut Plan, job: &Job, claimed: &owners::Claimed<Pod>) {
    for pod in &claimed.adopt {
        let metadata =
            json!({"uid": pod.uid(), "ownerReferences": [owners::controller_ref(job)], "finalizers": [TRACKING]});
        plan.patch(&**pod, PatchKind::Strategic, &json!({"metadata": metadata})).ignore_not_found().while_alive(job);
    }
    for pod in &claimed.release {
        let reference = json!({"$patch": "delete", "uid": job.uid()});
        let metadata = json!({"uid": pod.uid(), "ownerReferences": [reference], "$deleteFromPrimitiveList/finalizers": [TRACKING]});
        plan.patch(&**pod, PatchKind::Strategic, &json!({"metadata": metadata})).ignore_not_found();
    }
}

impl<'a> Pass<'a> {
    fn new(job: &'a Job, spec: JobSpec, owned: Vec<Arc<Pod>>, now: Timestamp) -> Self {
        let mut status = job.status.clone().unwrap_or_default();
        if status.start_time.is_none() && spec.suspend != Some(true) {
            status.start_time = Some(Time(now));
        }
        let active = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
        let mut pass = Pass {
            job,
            spec,
            now,
            active,
            pods: owned,
            status,
            succeeded: 0,
            failed: 0,
            succeeded_indexes: None,
            failed_indexes: None,
            finished: None,
        };
        pass.count();
        pass
    }

    pub fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    pub fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    pub fn completions(&self) -> i32 {
        self.spec.completions.unwrap_or(i32::MAX)
    }

    /// The pod's index, where it is one of the Job's.
    pub fn index_of(&self, pod: &Pod) -> Option<i32> {
        index(pod).filter(|index| *index < self.completions())
    }

    pub fn is_tracked(pod: &Pod) -> bool {
        has_finalizer(pod, TRACKING)
    }

    /// Counters with everything that has ended but is not in them yet.
    fn count(&mut self) {
        let uncounted = self.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let known: BTreeSet<String> = uncounted.succeeded.iter().chain(&uncounted.failed).flatten().cloned().collect();
        let fresh: Vec<Arc<Pod>> =
            self.pods.iter().filter(|pod| Self::is_tracked(pod) && !known.contains(pod.uid())).cloned().collect();
        let fresh: Vec<&Arc<Pod>> =
            fresh.iter().filter(|pod| !self.is_indexed() || self.index_of(pod).is_some()).collect();
        let succeeded = fresh.iter().filter(|pod| pods::phase(pod) == "Succeeded").count();
        let failed =
            fresh.iter().filter(|pod| is_failed(pod, self.job) && judge(self.job, pod) != Verdict::Ignore).count();
        let length = |list: &Option<Vec<String>>| list.as_ref().map_or(0, Vec::len);
        self.succeeded = self.status.succeeded.unwrap_or(0) + (succeeded + length(&uncounted.succeeded)) as i32;
        self.failed = self.status.failed.unwrap_or(0) + (failed + length(&uncounted.failed)) as i32;
        if self.is_indexed() {
            let mut indexes =
                Indexes::parse(self.status.completed_indexes.as_deref().unwrap_or(""), self.completions());
            let ended = self.pods.iter().filter(|pod| Self::is_tracked(pod) && pods::phase(pod) == "Succeeded");
            indexes.0.extend(ended.filter_map(|pod| self.index_of(pod)));
            self.succeeded = indexes.total();
            self.failed_indexes = self.spec.backoff_limit_per_index.map(|limit| self.find_failed_indexes(limit));
            self.succeeded_indexes = Some(indexes);
        }
    }

    fn find_failed_indexes(&self, limit: i32) -> Indexes {
        let mut indexes = Indexes::parse(self.status.failed_indexes.as_deref().unwrap_or(""), self.completions());
        for pod in self.pods.iter().filter(|pod| Self::is_tracked(pod) && is_failed(pod, self.job)) {
            let is_over = match judge(self.job, pod) {
                Verdict::FailIndex => true,
                Verdict::Ignore => false,
                _ => index_failures(pod) >= limit,
            };
            indexes.0.extend(self.index_of(pod).filter(|_| is_over));
        }
        indexes
    }

    /// Whether and why the Job is over. What was said before stays said.
    fn decide(&mut self, plan: &mut Plan) {
        let now = self.now;
        if let Some(met) =
            conditions::find(&self.status, conditions::SUCCESS_MET).filter(|condition| condition.status == "True")
        {
            self.finished = Some(met.clone());
            return;
        }
        if let Some(target) =
            conditions::find(&self.status, conditions::FAILURE_TARGET).filter(|condition| condition.status == "True")
        {
            self.finished = Some(target.clone());
            return;
        }
        let failure =
            |reason: &str, message: &str| conditions::new(conditions::FAILURE_TARGET, "True", reason, message, now);
        let policy =
            self.pods.iter().filter(|pod| is_failed(pod, self.job)).find_map(|pod| match judge(self.job, pod) {
                Verdict::FailJob(message) => Some(message),
                _ => None,
            });
        self.finished = match policy {
            Some(message) => Some(failure("PodFailurePolicy", &message)),
            None if self.failed > self.spec.backoff_limit.unwrap_or(6) || self.restarted_too_often() => {
                Some(failure("BackoffLimitExceeded", "Job has reached the specified backoff limit"))
            }
            None => self
                .deadline(plan)
                .then(|| failure("DeadlineExceeded", "Job was active longer than specified deadline")),
        };
        if self.finished.is_none() {
            self.finished = self.decide_indexed(failure);
        }
    }

    fn decide_indexed(&self, failure: impl Fn(&str, &str) -> JobCondition) -> Option<JobCondition> {
        let succeeded = self.succeeded_indexes.as_ref()?;
        if let Some(failed) = &self.failed_indexes {
            if self.spec.max_failed_indexes.is_some_and(|max| failed.total() > max) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return Some(failure("MaxFailedIndexesExceeded", message));
            }
            if failed.total() > 0 && failed.total() + succeeded.total() >= self.completions() {
                return Some(failure("FailedIndexes", "Job has failed indexes"));
            }
        }
        let message = policy::success(self.spec.success_policy.as_ref(), self.completions(), succeeded)?;
        Some(conditions::new(conditions::SUCCESS_MET, "True", "SuccessPolicy", message, self.now))
    }

    /// Containers restarted in place (restartPolicy OnFailure) count too.
    fn restarted_too_often(&self) -> bool {
        let restarts_in_place =
            self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("OnFailure");
        let going = self.pods.iter().filter(|pod| matches!(pods::phase(pod), "Running" | "Pending"));
        let statuses = going.filter_map(|pod| pod.status.as_ref()).flat_map(|status| {
            status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
        });
        let restarts: i32 = statuses.map(|status| status.restart_count).sum();
        let limit = self.spec.backoff_limit.unwrap_or(6);
        restarts_in_place && if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    fn deadline(&self, plan: &mut Plan) -> bool {
        let (Some(seconds), Some(start), false) =
            (self.spec.active_deadline_seconds, &self.status.start_time, self.is_suspended())
        else {
            return false;
        };
        match until(after_seconds(start.0, seconds), self.now) {
            Some(left) => {
                plan.requeue_after(left);
                false
            }
            None => true,
        }
    }

    fn delete_active(&mut self, plan: &mut Plan) {
        for pod in &self.active {
            let message = format!("Deleted pod: {}", pod.name());
            plan.delete(&**pod).then(PlannedEvent::normal(self.job, "SuccessfulDelete", message));
        }
        self.set_counts(0, 0, self.active.len() as i32);
    }

    /// Active, ready and terminating pods as they are once this pass's writes are done.
    pub fn set_counts(&mut self, active: i32, ready: i32, more_terminating: i32) {
        let terminating = self.pods.iter().filter(|pod| pods::is_terminating(pod)).count() as i32 + more_terminating;
        self.status.active = (active != 0).then_some(active);
        self.status.ready = Some(ready);
        self.status.terminating = Some(terminating);
    }

    fn complete_or_suspend(&mut self, plan: &mut Plan) {
        let active = self.status.active.unwrap_or(0);
        let is_complete = match self.spec.completions {
            None => self.succeeded > 0 && active == 0,
            Some(completions) => self.succeeded >= completions && active == 0,
        };
        let now = self.now;
        if is_complete {
            let message = "Reached expected number of succeeded pods";
            self.finished = Some(conditions::new(conditions::SUCCESS_MET, "True", "CompletionsReached", message, now));
        } else if self.is_suspended() {
            if conditions::ensure(
                &mut self.status,
                conditions::new("Suspended", "True", "JobSuspended", "Job suspended", now),
            ) {
                plan.event(PlannedEvent::normal(self.job, "Suspended", "Job suspended"));
                self.status.start_time = None;
            }
        } else if conditions::ensure(
            &mut self.status,
            conditions::new("Suspended", "False", "JobResumed", "Job resumed", now),
        ) {
            plan.event(PlannedEvent::normal(self.job, "Resumed", "Job resumed"));
            self.status.start_time = Some(Time(now));
        }
    }
}
