//! In-place resize, the node's side: whether the resources a pod's spec asks for by now can be had (upstream
//! `pkg/kubelet/allocation/allocation_manager.go`). Until they can, the pod goes on with what it was given before. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use api::quantity::Quantity as Amount;
use client::{
    EventType, Kind,
    kinds::core::v1::{Container, ContainerStatus, Node, Pod, ResourceRequirements},
};
use serde_json::json;
use volumes::resources::{amount, pod_requests};

use crate::{admission, plan::spec};

/// What of a container's resources can change while it runs.
pub const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// Resources that a pod was given, by container.
pub type Allocation = BTreeMap<String, ResourceRequirements>;

/// A resize that has to wait, or will never be: the PodResizePending condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `Deferred` or `Infeasible`.
    pub reason: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The spec asks for what was given.
    Same,
    /// What the spec asks for is the pod's from now on.
    Granted,
    Pending(Pending),
}

fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    let sidecars = spec::init_containers(pod).iter().filter(|container| spec::is_sidecar(container));
    sidecars.chain(spec::regular_containers(pod))
}

/// As the spec has it.
pub fn of(pod: &Pod) -> Allocation {
    let own = |container: &Container| (container.name.clone(), container.resources.clone().unwrap_or_default());
    resizable(pod).map(own).collect()
}

/// What an earlier run of the kubelet gave, from the status it wrote.
pub fn recorded(pod: &Pod) -> Allocation {
    let mut allocation = of(pod);
    let status = pod.status.as_ref();
    let lists = status.map(|status| [&status.container_statuses, &status.init_container_statuses]);
    let statuses = lists.into_iter().flatten().flat_map(|list| list.iter().flatten());
    for (status, given) in
        statuses.filter_map(|status: &ContainerStatus| Some((status, status.allocated_resources.as_ref()?)))
    {
        if let Some(entry) = allocation.get_mut(&status.name) {
            entry.requests = Some(given.clone());
            if let Some(actual) = &status.resources {
                entry.limits = actual.limits.clone();
            }
        }
    }
    allocation
}

/// The pod as if its spec asked for what it was given.
pub fn applied(pod: &Pod, allocation: &Allocation) -> Pod {
    let mut pod = pod.clone();
    if let Some(spec) = &mut pod.spec {
        let all = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for container in all {
            if let Some(given) = allocation.get(&container.name) {
                container.resources = Some(given.clone());
            }
        }
    }
    pod
}

fn number(resources: &ResourceRequirements, limits: bool, name: &str) -> Amount {
    let list = if limits { &resources.limits } else { &resources.requests };
    list.as_ref().and_then(|list| list.get(name)).map(amount).unwrap_or_default()
}

/// The resources that differ, in requests or limits.
pub fn difference(a: &ResourceRequirements, b: &ResourceRequirements) -> Vec<&'static str> {
    let differs = |name: &&str| [false, true].iter().any(|limits| number(a, *limits, name) != number(b, *limits, name));
    RESIZABLE.into_iter().filter(differs).collect()
}

/// Whether the memory limit falls from `before` to `after`, and to how many bytes.
pub fn falling_memory_limit(before: &ResourceRequirements, after: &ResourceRequirements) -> Option<i64> {
    let (before, after) = (number(before, true, "memory"), number(after, true, "memory"));
    let falls = !after.is_zero() && (before.is_zero() || after < before);
    falls.then(|| after.value())
}

/// `others`: what else runs on the node, with what it was given.
pub fn decide(pod: &Pod, given: &Allocation, others: &[&Pod], node: &Node) -> Decision {
    let wanted = of(pod);
    let same = |(name, resources): (&String, &ResourceRequirements)| {
        given.get(name).is_some_and(|given| difference(given, resources).is_empty())
    };
    if wanted.iter().all(same) {
        return Decision::Same;
    }
    let Some(allocatable) = node.status.as_ref().and_then(|status| status.allocatable.as_ref()) else {
        let message = "the node's allocatable resources are not known yet".to_owned();
        return Decision::Pending(Pending { reason: "Deferred", message });
    };
    for (name, wanted) in pod_requests(pod) {
        let capacity = allocatable.get(&name).map(amount).unwrap_or_default();
        if wanted > capacity && RESIZABLE.contains(&name.as_str()) {
            let shown = |amount: Amount| if name == "cpu" { amount.milli_value() } else { amount.value() };
            let (wanted, capacity) = (shown(wanted), shown(capacity));
            let message =
                format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}");
            return Decision::Pending(Pending { reason: "Infeasible", message });
        }
    }
    match admission::lacking(pod, others, allocatable) {
        Some((_, message)) => Decision::Pending(Pending { reason: "Deferred", message }),
        None => Decision::Granted,
    }
}

/// The allocations of all pods of the node.
#[derive(Default)]
pub struct Allocations {
    given: HashMap<String, Allocation>,
    waiting: BTreeMap<String, (Arc<Pod>, Pending)>,
}

/// What a decision means for a pod: as it may run, what it waits for, and the event that tells of it.
pub struct Outcome {
    pub pod: Arc<Pod>,
    pub pending: Option<Pending>,
    pub event: Option<(EventType, &'static str, String)>,
}

impl Allocations {
    /// Of a pod that is new here, be it that another run of the kubelet gave it something.
    pub fn begin(&mut self, pod: Arc<Pod>) -> Arc<Pod> {
        let given = recorded(&pod);
        let same = given == of(&pod);
        let running = if same { pod.clone() } else { Arc::new(applied(&pod, &given)) };
        if !same {
            let message = "not looked at yet".to_owned();
            self.waiting.insert(pod.uid().to_owned(), (pod.clone(), Pending { reason: "Deferred", message }));
        }
        self.given.insert(pod.uid().to_owned(), given);
        running
    }

    pub fn forget(&mut self, uid: &str) {
        self.given.remove(uid);
        self.waiting.remove(uid);
    }

    /// Pods whose resize waits, with the spec they ask by.
    pub fn waiting(&self) -> Vec<Arc<Pod>> {
        self.waiting.values().map(|(pod, _)| pod.clone()).collect()
    }

    pub fn decide(&mut self, pod: Arc<Pod>, others: &[&Pod], node: &Node) -> Outcome {
        let uid = pod.uid().to_owned();
        let given = self.given.entry(uid.clone()).or_insert_with(|| recorded(&pod));
        match decide(&pod, given, others, node) {
            Decision::Same => {
                self.waiting.remove(&uid);
                Outcome { pod, pending: None, event: None }
            }
            Decision::Granted => {
                self.waiting.remove(&uid);
                *given = of(&pod);
                let event = (EventType::Normal, "ResizeStarted", describe("started", &pod, ""));
                Outcome { pod, pending: None, event: Some(event) }
            }
            Decision::Pending(pending) => {
                let known = self.waiting.insert(uid, (pod.clone(), pending.clone())).map(|(_, known)| known.reason);
                let reason = if pending.reason == "Infeasible" { "ResizeInfeasible" } else { "ResizeDeferred" };
                let event = (known != Some(pending.reason))
                    .then(|| (EventType::Warning, reason, describe(pending.reason, &pod, &pending.message)));
                let running = Arc::new(applied(&pod, given));
                Outcome { pod: running, pending: Some(pending), event }
            }
        }
    }
}

/// The text of a resize event: what happened, and the resources it is about.
pub fn describe(what: &str, pod: &Pod, error: &str) -> String {
    let list = |containers: &[Container]| -> Vec<serde_json::Value> {
        let entry = |container: &Container| json!({"name": container.name, "resources": container.resources});
        containers.iter().map(entry).collect()
    };
    let mut summary = json!({"containers": list(spec::regular_containers(pod))});
    if !spec::init_containers(pod).is_empty() {
        summary["initContainers"] = list(spec::init_containers(pod)).into();
    }
    summary["generation"] = pod.metadata.generation.unwrap_or(0).into();
    if !error.is_empty() {
        summary["error"] = error.into();
    }
    format!("Pod resize {what}: {summary}")
}
