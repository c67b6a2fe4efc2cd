//! What is known of one pod on this node: records of its sandboxes and containers, probe results, what failed and what is
//! under way. The worker keeps it; the planner and the status generator only read it.

use std::collections::{BTreeMap, BTreeSet};

use client::kinds::core::v1::ResourceRequirements;
use jiff::{SignedDuration, Timestamp};

use crate::allocation::Pending;

/// A runtime's id of a container or sandbox.
pub type Id = String;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodObserved {
    /// Newest first.
    pub sandboxes: Vec<SandboxRecord>,
    /// Every instance the runtime still has, in any order.
    pub containers: Vec<ContainerRecord>,
    /// Everything the containers mount is in place.
    pub volumes_ready: bool,
    /// Volumes were torn down after the last container ended.
    pub volumes_gone: bool,
    pub cgroup_gone: bool,
    /// The API object has been deleted (or never needs to be: static pods that went away).
    pub finished: bool,
    pub probes: BTreeMap<Id, Probed>,
    /// Instances whose postStart hook has not returned yet.
    pub post_start: BTreeSet<Id>,
    /// Why the last attempt to start a container failed, by container name.
    pub failures: BTreeMap<String, Failure>,
    pub sandbox_failure: Option<Failure>,
    pub volume_failure: Option<Failure>,
    pub back_off: BTreeMap<String, BackOff>,
    pub doing: Doing,
    /// The node turned the pod away, evicted or preempted it.
    pub verdict: Option<Verdict>,
    /// The resources that running instances have, by id.
    pub applied: BTreeMap<Id, ResourceRequirements>,
    /// The spec asks for more than the pod was given.
    pub resize_pending: Option<Pending>,
    pub resize_failure: Option<Failure>,
    /// The pod's object is gone from its source.
    pub removed: bool,
    /// When the pod was first seen to end.
    pub ending_since: Option<Timestamp>,
    /// When this kubelet first saw the pod; its status' startTime.
    pub started_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxRecord {
    pub id: Id,
    pub attempt: u32,
    pub ready: bool,
    /// The runtime has taken its network down. A sandbox that died by itself still holds its network.
    pub stopped: bool,
    /// Empty on the host's network, and until the network is there.
    pub ips: Vec<String>,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ContainerRecord {
    pub id: Id,
    pub name: String,
    /// How many instances there were before this one.
    pub attempt: u32,
    pub sandbox: Id,
    pub state: State,
    /// [`super::spec::hash`] of the spec it was made from; empty if made by someone else.
    pub hash: String,
    /// As the runtime names it.
    pub image: String,
    pub image_ref: String,
    pub log_path: String,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made but not started.
    Created,
    Running {
        started_at: Timestamp,
    },
    Exited(Exit),
    /// The runtime lost track of it.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub code: i32,
    pub reason: String,
    pub message: String,
}

/// The last decisive result of each probe of a container instance; `None`: no verdict yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    pub startup: Option<bool>,
    pub liveness: Option<bool>,
    pub readiness: Option<bool>,
}

/// A failed attempt, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A waiting reason as the API shows it: `ErrImagePull`, `CreateContainerConfigError`.
    pub reason: &'static str,
    pub message: String,
    pub retry_at: Timestamp,
    /// Attempts that failed in a row.
    pub count: u32,
}

/// One key of upstream's `flowcontrol.Backoff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    pub delay: SignedDuration,
    pub updated: Timestamp,
}

/// Actions in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    pub volumes: bool,
    pub sandbox: bool,
    /// The lane that starts containers one after the other is busy.
    pub starting: bool,
    /// Container id to the moment at which the runtime will have killed it.
    pub killing: BTreeMap<Id, Timestamp>,
    pub stopping: BTreeSet<Id>,
    /// Containers and sandboxes being removed.
    pub removing: BTreeSet<Id>,
    pub tearing_down: bool,
    pub removing_cgroup: bool,
    pub finishing: bool,
    pub resizing: bool,
}

impl Doing {
    pub fn is_idle(&self) -> bool {
        *self == Doing::default()
    }
}

/// Why the node ends a pod on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The pod's status reason: `Evicted`, `OutOfcpu`, `NodeAffinity`.
    pub reason: String,
    pub message: String,
    /// `None`: the pod's own grace period.
    pub grace_seconds: Option<i64>,
    /// It is the node's trouble, not the pod's: the status says so in a DisruptionTarget condition.
    pub disruption: bool,
}

impl ContainerRecord {
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            _ => None,
        }
    }
}

impl PodObserved {
    pub fn sandbox(&self) -> Option<&SandboxRecord> {
        self.sandboxes.first()
    }

    /// The newest instance of a container, in whichever sandbox.
    pub fn latest(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers
            .iter()
            .filter(|record| record.name == name)
            .max_by_key(|record| (record.attempt, record.created_at))
    }

    /// The instance before the newest one.
    pub fn previous(&self, name: &str) -> Option<&ContainerRecord> {
        let latest = self.latest(name)?;
        let older = self.containers.iter().filter(|record| record.name == name && record.id != latest.id);
        older.max_by_key(|record| (record.attempt, record.created_at))
    }

    /// The newest instance in the current sandbox.
    pub fn current(&self, name: &str) -> Option<&ContainerRecord> {
        let sandbox = &self.sandbox()?.id;
        self.latest(name).filter(|record| record.sandbox == *sandbox)
    }

    pub fn running(&self) -> impl Iterator<Item = &ContainerRecord> {
        self.containers.iter().filter(|record| record.is_running())
    }

    pub fn probed(&self, id: &str) -> Probed {
        self.probes.get(id).copied().unwrap_or_default()
    }

    /// Its postStart hook is done and, where it has a startup probe, that succeeded.
    pub fn is_started(&self, record: &ContainerRecord, startup_probe: bool) -> bool {
        record.is_running()
            && !self.post_start.contains(&record.id)
            && (!startup_probe || self.probed(&record.id).startup == Some(true))
    }
}
