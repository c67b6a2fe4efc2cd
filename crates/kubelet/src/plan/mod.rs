//! What to do next for one pod: [`plan_pod`] is pure and follows upstream's `computePodActions`
//! (pkg/kubelet/kuberuntime/kuberuntime_manager.go) and `killContainersWithSyncResult`.
//!
//! A plan lists what can be done now. The worker carries it out, records what happened and asks again, so a plan never has
//! to look further than one step ahead; what is already under way is part of what was observed and is not planned twice.

pub mod backoff;
mod ending;
pub mod observed;
mod resize;
mod running;
pub mod spec;

use std::{collections::BTreeMap, fmt};

use client::kinds::core::v1::Pod;
use jiff::Timestamp;

pub use ending::{Ending, EndingCause, ending};
pub use observed::{
    BackOff, ContainerRecord, Doing, Exit, Failure, PodObserved, Probed, SandboxRecord, State, Verdict,
};
pub use resize::unresized;
pub use spec::Role;

/// One thing to do. Independent of every other step of its plan, except that `Start` steps are done one after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    SetUpVolumes,
    CreateSandbox {
        attempt: u32,
    },
    /// Pull, create, start, postStart.
    Start {
        container: String,
        role: Role,
        attempt: u32,
        back_off: Option<BackOff>,
    },
    /// preStop, stop signal, SIGKILL after the grace period.
    Kill {
        id: String,
        container: String,
        grace_seconds: i64,
        cause: KillCause,
    },
    /// Give running containers (id and name) the resources the pod was given.
    Resize {
        containers: Vec<(String, String)>,
    },
    StopSandbox {
        id: String,
    },
    /// Forget an old instance.
    RemoveContainer {
        id: String,
        container: String,
    },
    RemoveSandbox {
        id: String,
    },
    TearDownVolumes,
    RemoveCgroup,
    /// Tell the API server that nothing is left: final status, then delete the object.
    Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillCause {
    SpecChanged,
    LivenessProbe,
    StartupProbe,
    SandboxChanged,
    /// Its resizePolicy asks for a restart.
    Resized,
    /// The runtime lost track of it.
    Unknown,
    PodEnds,
}

/// Why a container is not running although it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodPlan {
    pub steps: Vec<Step>,
    /// By container name.
    pub waiting: BTreeMap<String, Waiting>,
    /// Ask again at this time, if nothing happens before.
    pub wake_at: Option<Timestamp>,
    /// All containers have ended for good, or will be ended.
    pub ends: bool,
}

pub(crate) struct Planner<'a> {
    pub pod: &'a Pod,
    pub observed: &'a PodObserved,
    pub now: Timestamp,
    pub plan: PodPlan,
}

/// Decides on the next steps for `pod`.
pub fn plan_pod(pod: &Pod, observed: &PodObserved, now: Timestamp) -> PodPlan {
    let mut planner = Planner { pod, observed, now, plan: PodPlan::default() };
    match ending(pod, observed, now) {
        Some(ending) => planner.end(&ending),
        None => planner.run(),
    }
    planner.plan
}

impl Planner<'_> {
    pub(crate) fn push(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    pub(crate) fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Kills a container unless that is under way and will be done by the time this kill would be.
    pub(crate) fn kill(&mut self, record: &ContainerRecord, grace_seconds: i64, cause: KillCause) {
        let deadline = self.now + jiff::SignedDuration::from_secs(grace_seconds.max(0));
        if self.observed.doing.killing.get(&record.id).is_some_and(|planned| *planned <= deadline) {
            return;
        }
        self.push(Step::Kill { id: record.id.clone(), container: record.name.clone(), grace_seconds, cause });
    }

    /// Whether a failed attempt still has to wait; keeps the time to wake.
    pub(crate) fn held_back(&mut self, failure: Option<&Failure>) -> bool {
        match failure {
            Some(failure) if failure.retry_at > self.now => {
                self.wake(failure.retry_at);
                true
            }
            _ => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Init => "init",
            Role::Sidecar => "sidecar",
            Role::Regular => "regular",
            Role::Ephemeral => "ephemeral",
        })
    }
}

impl fmt::Display for KillCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KillCause::SpecChanged => "definition changed",
            KillCause::LivenessProbe => "failed liveness probe",
            KillCause::StartupProbe => "failed startup probe",
            KillCause::SandboxChanged => "pod sandbox changed",
            KillCause::Resized => "resize requires restart",
            KillCause::Unknown => "in unknown state",
            KillCause::PodEnds => "pod ends",
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::SetUpVolumes => f.write_str("set up volumes"),
            Step::CreateSandbox { attempt } => write!(f, "create sandbox, attempt {attempt}"),
            Step::Start { container, role, attempt, back_off } => {
                write!(f, "start {role} container {container}, attempt {attempt}")?;
                match back_off {
                    Some(back_off) => write!(f, ", then back off {}", backoff::print(back_off.delay)),
                    None => Ok(()),
                }
            }
            Step::Kill { id, container, grace_seconds, cause } => {
                write!(f, "kill container {container} ({id}) within {grace_seconds}s: {cause}")
            }
            Step::Resize { containers } => {
                let names: Vec<&str> = containers.iter().map(|(_, name)| name.as_str()).collect();
                write!(f, "resize {}", names.join(", "))
            }
            Step::StopSandbox { id } => write!(f, "stop sandbox {id}"),
            Step::RemoveContainer { id, container } => write!(f, "remove container {container} ({id})"),
            Step::RemoveSandbox { id } => write!(f, "remove sandbox {id}"),
            Step::TearDownVolumes => f.write_str("tear down volumes"),
            Step::RemoveCgroup => f.write_str("remove cgroup"),
            Step::Finish => f.write_str("finish"),
        }
    }
}

impl fmt::Display for PodPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for (container, waiting) in &self.waiting {
            writeln!(f, "{container} waits: {}: {}", waiting.reason, waiting.message)?;
        }
        if let Some(at) = self.wake_at {
            writeln!(f, "wake at {at}")?;
        }
        if self.ends {
            writeln!(f, "the pod ends")?;
        }
        Ok(())
    }
}
