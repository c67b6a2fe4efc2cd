//! Ending a pod: containers first, sidecars after them in reverse order, then sandbox, volumes and cgroup, then the object.

use client::kinds::core::v1::Pod;
use jiff::{SignedDuration, Timestamp};

use super::{ContainerRecord, KillCause, Planner, PodObserved, Step, spec};

/// What upstream leaves a container at least (`minimumGracePeriodInSeconds`), so that it is not killed without a chance.
pub const MIN_GRACE_SECONDS: i64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndingCause {
    /// deletionTimestamp is set.
    Deleted,
    /// The object is gone from its source.
    Removed,
    /// Evicted, preempted or turned away.
    Verdict,
    DeadlineExceeded,
    /// Succeeded or failed by itself.
    Completed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    pub cause: EndingCause,
    /// For all of the pod's containers together, from the moment the ending was first seen.
    pub grace_seconds: i64,
}

impl Ending {
    pub(super) fn completed(pod: &Pod) -> Ending {
        Ending { cause: EndingCause::Completed, grace_seconds: spec::grace_seconds(pod) }
    }
}

/// Whether, and why, the pod has to end.
pub fn ending(pod: &Pod, observed: &PodObserved, now: Timestamp) -> Option<Ending> {
    let own = spec::grace_seconds(pod);
    if observed.removed {
        return Some(Ending { cause: EndingCause::Removed, grace_seconds: own });
    }
    if pod.metadata.deletion_timestamp.is_some() {
        // Zero means "now"; upstream rounds it up so that the signal is sent at all.
        let grace_seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(own).max(1);
        return Some(Ending { cause: EndingCause::Deleted, grace_seconds });
    }
    if let Some(verdict) = &observed.verdict {
        let grace_seconds = verdict.grace_seconds.unwrap_or(own);
        return Some(Ending { cause: EndingCause::Verdict, grace_seconds });
    }
    if deadline(pod, observed).is_some_and(|deadline| deadline <= now) {
        return Some(Ending { cause: EndingCause::DeadlineExceeded, grace_seconds: own });
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed")).then(|| Ending::completed(pod))
}

/// startTime + activeDeadlineSeconds.
fn deadline(pod: &Pod, observed: &PodObserved) -> Option<Timestamp> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    let recorded = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
    recorded.or(observed.started_at)?.checked_add(SignedDuration::from_secs(seconds)).ok()
}

impl Planner<'_> {
    pub(super) fn end(&mut self, ending: &Ending) {
        self.plan.ends = true;
        if self.kill_in_order(ending) {
            return;
        }
        let doing = &self.observed.doing;
        if doing.starting || doing.sandbox || doing.volumes {
            return;
        }
        if !self.observed.volumes_gone && !doing.tearing_down {
            let failure = self.observed.volume_failure.clone();
            if !self.held_back(failure.as_ref()) {
                self.push(Step::TearDownVolumes);
            }
        }
        if self.stop_sandboxes() {
            return;
        }
        if matches!(ending.cause, EndingCause::Deleted | EndingCause::Removed) {
            self.remove_all();
        } else if !self.observed.cgroup_gone && !self.observed.doing.removing_cgroup {
            self.push(Step::RemoveCgroup);
        }
    }

    /// Kills what is running; true while anything is.
    fn kill_in_order(&mut self, ending: &Ending) -> bool {
        let since = self.observed.ending_since.unwrap_or(self.now);
        let left = ending.grace_seconds - self.now.duration_since(since).as_secs().max(0);
        let sidecars = spec::init_containers(self.pod).iter().filter(|container| spec::is_sidecar(container));
        let sidecars: Vec<&str> = sidecars.map(|container| container.name.as_str()).collect();
        let running: Vec<ContainerRecord> = self.observed.running().cloned().collect();
        let (side, main): (Vec<_>, Vec<_>) =
            running.iter().partition(|record| sidecars.contains(&record.name.as_str()));
        if !main.is_empty() {
            for record in main {
                self.kill(record, left.max(MIN_GRACE_SECONDS), KillCause::PodEnds);
            }
            return true;
        }
        let order = |record: &&&ContainerRecord| sidecars.iter().position(|name| *name == record.name);
        if let Some(last) = side.iter().max_by_key(order) {
            self.kill(last, left.max(MIN_GRACE_SECONDS), KillCause::PodEnds);
        }
        !side.is_empty()
    }

    /// Nothing runs any more and the object is to go.
    fn remove_all(&mut self) {
        let doing = &self.observed.doing;
        let mut steps = Vec::new();
        for sandbox in &self.observed.sandboxes {
            if !doing.removing.contains(&sandbox.id) {
                steps.push(Step::RemoveSandbox { id: sandbox.id.clone() });
            }
        }
        // Removing a sandbox removes what is in it; others were left behind by sandboxes that are gone.
        for record in &self.observed.containers {
            let known = self.observed.sandboxes.iter().any(|sandbox| sandbox.id == record.sandbox);
            if !known && !doing.removing.contains(&record.id) {
                steps.push(Step::RemoveContainer { id: record.id.clone(), container: record.name.clone() });
            }
        }
        if !self.observed.cgroup_gone && !doing.removing_cgroup {
            steps.push(Step::RemoveCgroup);
        }
        if self.observed.volumes_gone && !doing.finishing && !self.observed.finished {
            steps.push(Step::Finish);
        }
        self.plan.steps.extend(steps);
    }
}
