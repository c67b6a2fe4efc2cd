//! The executor: every step of a plan becomes a task, and its end becomes something observed.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use client::{
    EventType,
    kinds::core::v1::{Pod, ResourceRequirements},
};
use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1::ContainerStatus;
use volumes::{PodMounts, VolumeError};

use super::{PodWorker, Signal, kill, resize, start, start::StartFailure};
use crate::{
    cri::RuntimeError,
    housekeeping,
    plan::{ContainerRecord, Failure, PodPlan, SandboxRecord, State, Step, spec},
};

/// What came of a step.
#[derive(Debug)]
pub enum Done {
    Volumes(Result<PodMounts, VolumeError>),
    Sandbox(Result<SandboxRecord, StartFailure>),
    /// An instance runs; its postStart hook is still to be called where `post_start` says so.
    Started {
        record: ContainerRecord,
        post_start: bool,
        /// That it was started with.
        resources: ResourceRequirements,
    },
    PostStart {
        id: String,
    },
    StartFailed {
        container: String,
        failure: StartFailure,
    },
    /// The lane is free again.
    Lane,
    Status {
        id: String,
        status: Result<ContainerStatus, RuntimeError>,
    },
    Killed {
        id: String,
        status: Result<ContainerStatus, RuntimeError>,
    },
    SandboxStopped {
        id: String,
        result: Result<(), RuntimeError>,
    },
    Removed {
        id: String,
        result: Result<(), RuntimeError>,
    },
    Resized {
        pod: Arc<Pod>,
        parts: Vec<resize::Part>,
        result: Result<(), resize::ResizeError>,
    },
    /// A sandbox that this worker did not know of, or not any more.
    Found(SandboxRecord),
    TornDown(Result<(), VolumeError>),
    CgroupRemoved(bool),
    Finished,
    /// The task panicked; its step is open again.
    Lost(Step),
}

/// How long to wait before trying something again that failed `count` times in a row.
fn retry(count: u32, now: Timestamp) -> Timestamp {
    let seconds = (1_i64 << count.min(4)).min(10);
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now)
}

pub(super) fn fail(slot: &mut Option<Failure>, reason: &'static str, message: String, now: Timestamp) {
    let count = slot.as_ref().map_or(0, |failure| failure.count);
    *slot = Some(Failure { reason, message, retry_at: retry(count, now), count: count + 1 });
}

impl PodWorker {
    pub(super) fn dispatch(&mut self, plan: PodPlan) {
        let mut lane = Vec::new();
        for step in plan.steps {
            match step {
                Step::Start { .. } => lane.push(step),
                step => self.act(step),
            }
        }
        if !lane.is_empty() {
            self.start_lane(lane);
        }
    }

    /// Runs a step beside everything else.
    pub(super) fn beside(&self, step: Step, work: impl Future<Output = Done> + Send + 'static) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let done = tokio::spawn(work).await.unwrap_or_else(|error| {
                tracing::error!(%step, %error, "step was lost");
                Done::Lost(step)
            });
            let _ = sender.send(Signal::Done(Box::new(done)));
        });
    }

    fn act(&mut self, step: Step) {
        let (node, pod) = (self.node.clone(), self.pod.clone());
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let doing = &mut self.observed.doing;
        match step.clone() {
            Step::SetUpVolumes => {
                doing.volumes = true;
                self.beside(step, async move { Done::Volumes(node.volumes.set_up(&pod).await) });
            }
            Step::CreateSandbox { attempt } => {
                doing.sandbox = true;
                self.beside(step, async move { Done::Sandbox(start::sandbox(&node, &pod, attempt).await) });
            }
            Step::Kill { id, container, grace_seconds, cause } => {
                let grace = SignedDuration::from_secs(grace_seconds.max(0));
                doing.killing.insert(id.clone(), node.clock.now().checked_add(grace).unwrap_or(Timestamp::MAX));
                let address = self.address();
                let kill = kill::Kill { id, container, grace_seconds, cause, address };
                self.beside(step, async move {
                    let id = kill.id.clone();
                    Done::Killed { id, status: kill.run(&node, &pod).await }
                });
            }
            Step::StopSandbox { id } => {
                doing.stopping.insert(id.clone());
                self.beside(step, async move {
                    let result = node.runtime.stop_pod_sandbox(&id).await;
                    Done::SandboxStopped { id, result }
                });
            }
            Step::RemoveContainer { id, .. } => {
                doing.removing.insert(id.clone());
                let known = self.observed.containers.iter().find(|record| record.id == id);
                let log = known.map(|record| record.log_path.clone()).filter(|path| !path.is_empty());
                self.beside(step, async move {
                    let result = node.runtime.remove_container(&id).await;
                    if let Some(log) = log.filter(|_| result.is_ok()) {
                        housekeeping::logs::remove(Path::new(&log)).await;
                    }
                    Done::Removed { id, result }
                });
            }
            Step::RemoveSandbox { id } => {
                doing.removing.insert(id.clone());
                self.beside(step, async move {
                    let result = node.runtime.remove_pod_sandbox(&id).await;
                    Done::Removed { id, result }
                });
            }
            Step::TearDownVolumes => {
                doing.tearing_down = true;
                self.beside(step, async move { Done::TornDown(node.volumes.tear_down(&uid).await) });
            }
            Step::RemoveCgroup => {
                doing.removing_cgroup = true;
                self.beside(step, async move { Done::CgroupRemoved(kill::remove_cgroup(&node, &pod).await) });
            }
            Step::Resize { containers } => self.start_resize(step, &containers),
            Step::Finish => self.finish(step),
            // Starts have their lane.
            Step::Start { .. } => {}
        }
    }

    fn start_lane(&mut self, lane: Vec<Step>) {
        let Some(sandbox) = self.observed.sandbox().cloned() else { return };
        self.observed.doing.starting = true;
        let starter = start::Starter {
            node: self.node.clone(),
            pod: self.pod.clone(),
            mounts: self.mounts.clone(),
            sandbox,
            address: self.address(),
            targets: self.observed.running().map(|record| (record.name.clone(), record.id.clone())).collect(),
            sender: self.sender.clone(),
            cancel: self.starts.clone(),
        };
        for step in &lane {
            if let Step::Start { container, back_off: Some(back_off), .. } = step {
                self.observed.back_off.insert(container.clone(), *back_off);
            }
        }
        if let Some(first) = lane.first().cloned() {
            self.beside(first, starter.run(lane));
        }
    }

    /// The last status first, then the object; both for as long as it takes.
    fn finish(&mut self, step: Step) {
        self.observed.doing.finishing = true;
        let (node, writer) = (self.node.clone(), self.writer.clone());
        let target = match (spec::is_static(&self.pod), self.observed.removed) {
            (true, _) => self.mirror.clone(),
            (false, true) => None,
            (false, false) => Some(self.pod.clone()),
        };
        self.beside(step, async move {
            let Some(target) = target else { return Done::Finished };
            writer.flush().await;
            let mut pause = Duration::from_millis(50);
            loop {
                match node.api.delete(&target).await {
                    Ok(()) => return Done::Finished,
                    Err(error) if error.is_not_found() || error.is_conflict() => return Done::Finished,
                    Err(error) => tracing::warn!(pod = target.metadata.name, %error, "cannot delete pod"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        });
    }

    pub(super) fn refresh_volumes(&mut self) {
        if !self.observed.volumes_ready {
            self.stale = self.observed.doing.volumes;
            // What they waited for may be there now.
            if let Some(failure) = &mut self.observed.volume_failure {
                failure.retry_at = self.node.clock.now();
            }
            return;
        }
        let (node, pod) = (self.node.clone(), self.pod.clone());
        tokio::spawn(async move {
            if let Err(error) = node.volumes.refresh(&pod).await {
                node.event(&pod, None, EventType::Warning, "FailedMount", error.to_string());
            }
        });
    }

    /// Takes down what came of a step.
    pub(super) fn record(&mut self, done: Done) {
        let now = self.node.clock.now();
        match done {
            Done::Volumes(result) => self.volumes_done(result, now),
            Done::Sandbox(result) => self.sandbox_done(result, now),
            Done::Started { record, post_start, resources } => {
                self.observed.failures.remove(&record.name);
                self.observed.applied.insert(record.id.clone(), resources);
                if post_start {
                    self.observed.post_start.insert(record.id.clone());
                }
                self.observed.containers.retain(|known| known.id != record.id);
                self.observed.containers.push(record);
            }
            Done::PostStart { id } => {
                self.observed.post_start.remove(&id);
            }
            Done::StartFailed { container, failure } => self.start_failed(container, failure, now),
            Done::Lane => self.observed.doing.starting = false,
            Done::Status { id, status } => self.status_done(&id, status),
            Done::Killed { id, status } => {
                self.observed.doing.killing.remove(&id);
                self.status_done(&id, status);
            }
            Done::SandboxStopped { id, result } => {
                self.observed.doing.stopping.remove(&id);
                match result {
                    Ok(()) => self.sandbox_gone(&id),
                    Err(error) if error.is_not_found() => self.sandbox_gone(&id),
                    Err(error) => {
                        let message = format!("error killing pod: failed to \"KillPodSandbox\": {error}");
                        self.event(EventType::Warning, None, "FailedKillPod", message);
                        self.again_in_a_second(move |doing| doing.stopping.insert(id.clone()));
                    }
                }
            }
            Done::Removed { id, result } => self.removed(id, result),
            Done::Resized { pod, parts, result } => self.resized(&pod, &parts, result),
            Done::Found(record) => self.adopt(record),
            Done::TornDown(result) => self.torn_down(result, now),
            Done::CgroupRemoved(gone) => {
                self.observed.doing.removing_cgroup = false;
                self.observed.cgroup_gone = gone;
            }
            Done::Finished => {
                self.observed.doing.finishing = false;
                self.observed.finished = true;
            }
            Done::Lost(step) => self.reopen(&step),
        }
    }

    fn volumes_done(&mut self, result: Result<PodMounts, VolumeError>, now: Timestamp) {
        self.observed.doing.volumes = false;
        match result {
            Ok(mounts) => {
                self.mounts = Arc::new(mounts);
                self.observed.volumes_ready = true;
                self.observed.volumes_gone = false;
                self.observed.volume_failure = None;
                if std::mem::take(&mut self.stale) {
                    self.refresh_volumes();
                }
            }
            Err(error) => {
                for error in error.each() {
                    self.event(EventType::Warning, None, "FailedMount", error.to_string());
                }
                fail(&mut self.observed.volume_failure, "ContainerCreating", error.to_string(), now);
            }
        }
    }

    fn sandbox_done(&mut self, result: Result<SandboxRecord, StartFailure>, now: Timestamp) {
        self.observed.doing.sandbox = false;
        match result {
            Ok(record) => {
                self.node.register(&record.id, &self.sender);
                self.observed.sandbox_failure = None;
                self.observed.sandboxes.insert(0, record);
                // What was made in the old sandbox starts without old failures.
                self.observed.failures.clear();
            }
            Err(failure) => {
                let message = format!("Failed to create pod sandbox: {}", failure.message);
                self.event(EventType::Warning, None, "FailedCreatePodSandBox", message);
                fail(&mut self.observed.sandbox_failure, failure.reason, failure.message, now);
            }
        }
    }

    fn start_failed(&mut self, container: String, failure: StartFailure, now: Timestamp) {
        let mut slot = self.observed.failures.remove(&container);
        fail(&mut slot, failure.reason, failure.message, now);
        if let Some(mut failed) = slot {
            if let Some(at) = failure.retry_at {
                failed.retry_at = at;
            }
            self.observed.failures.insert(container, failed);
        }
    }

    fn status_done(&mut self, id: &str, status: Result<ContainerStatus, RuntimeError>) {
        match status {
            Ok(status) => self.take_status(&status),
            Err(error) if error.is_not_found() => {
                let known = self.observed.containers.iter_mut().find(|record| record.id == id);
                if let Some(record) = known.filter(|record| record.is_running()) {
                    record.state = State::Unknown;
                }
            }
            // The next listing, or the next plan's kill, asks again.
            Err(error) => tracing::warn!(id, %error, "cannot read container status"),
        }
        self.observed
            .post_start
            .retain(|pending| pending != id || self.observed.containers.iter().any(|r| r.id == id && r.is_running()));
    }

    fn sandbox_gone(&mut self, id: &str) {
        if let Some(sandbox) = self.observed.sandboxes.iter_mut().find(|sandbox| sandbox.id == id) {
            sandbox.ready = false;
            sandbox.stopped = true;
        }
        // Stopping a sandbox kills what was left in it.
        let left: Vec<String> = self.observed.running().filter(|r| r.sandbox == id).map(|r| r.id.clone()).collect();
        for id in left {
            self.inspect(&id);
        }
    }

    fn removed(&mut self, id: String, result: Result<(), RuntimeError>) {
        self.observed.doing.removing.remove(&id);
        match result {
            Err(error) if !error.is_not_found() => {
                tracing::warn!(id, %error, "cannot remove");
                self.again_in_a_second(move |doing| doing.removing.insert(id.clone()));
            }
            _ => {
                self.node.unregister(&id);
                let in_it = self.observed.containers.iter().filter(|record| record.sandbox == id);
                in_it.for_each(|record| self.node.unregister(&record.id));
                self.observed.containers.retain(|record| record.id != id && record.sandbox != id);
                self.observed.sandboxes.retain(|sandbox| sandbox.id != id);
                let containers = &self.observed.containers;
                self.observed.applied.retain(|id, _| containers.iter().any(|record| record.id == *id));
            }
        }
    }

    fn torn_down(&mut self, result: Result<(), VolumeError>, now: Timestamp) {
        self.observed.doing.tearing_down = false;
        match result {
            Ok(()) => {
                self.observed.volumes_gone = true;
                self.observed.volumes_ready = false;
                self.observed.volume_failure = None;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot tear down volumes");
                fail(&mut self.observed.volume_failure, "ContainerCreating", error.to_string(), now);
            }
        }
    }

    /// Holds a step back for a second by leaving it marked as under way.
    fn again_in_a_second<T>(&mut self, mark: impl FnOnce(&mut crate::plan::Doing) -> T) {
        let before = self.observed.doing.clone();
        mark(&mut self.observed.doing);
        let held = |now: &std::collections::BTreeSet<String>, then: &std::collections::BTreeSet<String>| {
            now.difference(then).next().cloned()
        };
        let stopping = held(&self.observed.doing.stopping, &before.stopping);
        let removing = held(&self.observed.doing.removing, &before.removing);
        let step = match (stopping, removing) {
            (Some(id), _) => Step::StopSandbox { id },
            (_, Some(id)) => Step::RemoveSandbox { id },
            _ => return,
        };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = sender.send(Signal::Done(Box::new(Done::Lost(step))));
        });
    }

    /// A step ended without a result: it may be planned again.
    fn reopen(&mut self, step: &Step) {
        let doing = &mut self.observed.doing;
        match step {
            Step::SetUpVolumes => doing.volumes = false,
            Step::CreateSandbox { .. } => doing.sandbox = false,
            Step::Start { .. } => doing.starting = false,
            Step::Kill { id, .. } => drop(doing.killing.remove(id)),
            Step::StopSandbox { id } => drop(doing.stopping.remove(id)),
            Step::RemoveContainer { id, .. } | Step::RemoveSandbox { id } => drop(doing.removing.remove(id)),
            Step::TearDownVolumes => doing.tearing_down = false,
            Step::RemoveCgroup => doing.removing_cgroup = false,
            Step::Resize { .. } => doing.resizing = false,
            Step::Finish => doing.finishing = false,
        }
    }
}
