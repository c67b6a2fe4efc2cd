//! Pod conditions (upstream `pkg/kubelet/status/generate.go`).

use client::{
    apimachinery::pkg::apis::meta::v1::Time,
    kinds::core::v1::{ContainerStatus, Pod, PodCondition, PodStatus},
};
use jiff::Timestamp;

use crate::plan::{PodObserved, spec, unresized};

/// The conditions this kubelet owns; others' are left alone.
pub(crate) const OWNED: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// Conditions of this kubelet that go again.
pub(crate) const TRANSIENT: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];
const DISRUPTION: &str = "DisruptionTarget";
const BY_KUBELET: &str = "TerminationByKubelet";

/// Whether a condition is this kubelet's to write. Others write DisruptionTarget too.
pub(crate) fn is_own(kind: &str, reason: Option<&str>) -> bool {
    OWNED.contains(&kind) || TRANSIENT.contains(&kind) || (kind == DISRUPTION && reason == Some(BY_KUBELET))
}

pub(super) fn all(
    pod: &Pod,
    observed: &PodObserved,
    status: &PodStatus,
    old: Option<&PodStatus>,
    now: Timestamp,
) -> Vec<PodCondition> {
    let others = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let sandbox = observed.sandbox().filter(|sandbox| sandbox.ready);
    let networked = sandbox.is_some_and(|sandbox| spec::host_network(pod) || !sandbox.ips.is_empty());
    let containers = containers_ready(pod, status);
    let mut wanted = vec![
        plain("PodReadyToStartContainers", networked),
        initialized(pod, status),
        pod_ready(pod, &containers, &others),
        containers,
        plain("PodScheduled", true),
    ];
    let before = old.and_then(|old| old.conditions.as_deref()).unwrap_or_default();
    for condition in &mut wanted {
        let last = before.iter().find(|last| last.type_ == condition.type_);
        let since =
            last.filter(|last| last.status == condition.status).and_then(|last| last.last_transition_time.clone());
        condition.last_transition_time = Some(since.unwrap_or(Time(now)));
        condition.observed_generation = pod.metadata.generation;
    }
    if observed.verdict.as_ref().is_some_and(|verdict| verdict.disruption) {
        wanted.push(disruption(observed, pod, before, now));
    }
    wanted.extend(resizes(pod, observed, before, now));
    let own: Vec<String> = wanted.iter().map(|condition| condition.type_.clone()).collect();
    wanted.extend(
        others
            .into_iter()
            .filter(|condition| !own.contains(&condition.type_) && !TRANSIENT.contains(&condition.type_.as_str())),
    );
    wanted
}

/// A resize that waits, and one that is under way.
fn resizes(pod: &Pod, observed: &PodObserved, before: &[PodCondition], now: Timestamp) -> Vec<PodCondition> {
    let pending = observed.resize_pending.as_ref().map(|pending| PodCondition {
        reason: Some(pending.reason.to_owned()),
        message: Some(pending.message.clone()),
        ..plain("PodResizePending", true)
    });
    let under_way = (!unresized(pod, observed).is_empty()).then(|| PodCondition {
        reason: observed.resize_failure.as_ref().map(|failure| failure.reason.to_owned()),
        message: observed.resize_failure.as_ref().map(|failure| failure.message.clone()),
        ..plain("PodResizeInProgress", true)
    });
    let mut conditions: Vec<PodCondition> = pending.into_iter().chain(under_way).collect();
    for condition in &mut conditions {
        let known = before.iter().find(|known| known.type_ == condition.type_);
        let since = known.and_then(|known| known.last_transition_time.clone());
        condition.last_transition_time = Some(since.unwrap_or(Time(now)));
        condition.observed_generation = pod.metadata.generation;
    }
    conditions
}

/// Why the pod had to make room (upstream `eviction_manager.go: synchronize`).
fn disruption(observed: &PodObserved, pod: &Pod, before: &[PodCondition], now: Timestamp) -> PodCondition {
    let known = before.iter().find(|condition| condition.type_ == DISRUPTION && condition.status == "True");
    let since = known.and_then(|condition| condition.last_transition_time.clone());
    PodCondition {
        reason: Some(BY_KUBELET.to_owned()),
        message: observed.verdict.as_ref().map(|verdict| verdict.message.clone()),
        last_transition_time: Some(since.unwrap_or(Time(now))),
        observed_generation: pod.metadata.generation,
        ..plain(DISRUPTION, true)
    }
}

fn plain(kind: &str, status: bool) -> PodCondition {
    let status = if status { "True" } else { "False" };
    PodCondition { type_: kind.to_owned(), status: status.to_owned(), ..PodCondition::default() }
}

fn because(kind: &str, reason: &str, message: String) -> PodCondition {
    let message = Some(message).filter(|message| !message.is_empty());
    PodCondition { reason: Some(reason.to_owned()), message, ..plain(kind, false) }
}

fn phase(status: &PodStatus) -> &str {
    status.phase.as_deref().unwrap_or_default()
}

/// Go's `%s` of a slice.
fn list(names: &[&str]) -> String {
    format!("[{}]", names.join(" "))
}

fn initialized(pod: &Pod, status: &PodStatus) -> PodCondition {
    let statuses = status.init_container_statuses.as_deref().unwrap_or_default();
    let main_ran = status.container_statuses.iter().flatten().any(|status| {
        status.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
    });
    if phase(status) == "Succeeded" {
        return PodCondition { reason: Some("PodCompleted".to_owned()), ..plain("Initialized", true) };
    }
    let incomplete: Vec<&str> = spec::init_containers(pod)
        .iter()
        .filter(|container| {
            let status = statuses.iter().find(|status| status.name == container.name);
            !status.is_some_and(
                |status| if spec::is_sidecar(container) { status.started == Some(true) } else { status.ready },
            )
        })
        .map(|container| container.name.as_str())
        .collect();
    if incomplete.is_empty() || main_ran {
        return plain("Initialized", true);
    }
    let message = format!("containers with incomplete status: {}", list(&incomplete));
    because("Initialized", "ContainersNotInitialized", message)
}

fn containers_ready(pod: &Pod, status: &PodStatus) -> PodCondition {
    match phase(status) {
        "Succeeded" => return because("ContainersReady", "PodCompleted", String::new()),
        "Failed" => return because("ContainersReady", "PodFailed", String::new()),
        _ => {}
    }
    let is_ready = |name: &str, statuses: &Option<Vec<ContainerStatus>>| {
        statuses.iter().flatten().any(|status| status.name == name && status.ready)
    };
    let sidecars = spec::init_containers(pod).iter().filter(|container| spec::is_sidecar(container));
    let unready_sidecars = sidecars.filter(|container| !is_ready(&container.name, &status.init_container_statuses));
    let regular = spec::regular_containers(pod).iter();
    let unready = regular.filter(|container| !is_ready(&container.name, &status.container_statuses));
    let names: Vec<&str> = unready_sidecars.chain(unready).map(|container| container.name.as_str()).collect();
    if names.is_empty() {
        return plain("ContainersReady", true);
    }
    because("ContainersReady", "ContainersNotReady", format!("containers with unready status: {}", list(&names)))
}

fn pod_ready(pod: &Pod, containers: &PodCondition, others: &[PodCondition]) -> PodCondition {
    if containers.status != "True" {
        return PodCondition { type_: "Ready".to_owned(), ..containers.clone() };
    }
    let mut missing = Vec::new();
    for gate in pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten()) {
        let kind = &gate.condition_type;
        match others.iter().find(|condition| condition.type_ == *kind) {
            None => missing.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(condition) if condition.status != "True" => {
                missing.push(format!(
                    "the status of pod readiness gate {kind:?} is not \"True\", but {}",
                    condition.status
                ));
            }
            Some(_) => {}
        }
    }
    if missing.is_empty() {
        plain("Ready", true)
    } else {
        because("Ready", "ReadinessGatesNotReady", missing.join(", "))
    }
}
