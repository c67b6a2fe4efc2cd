//! A pod's status from what was observed (upstream `kubelet_pods.go: generateAPIPodStatus`, `status/generate.go`). Pure.

mod conditions;
mod containers;
pub mod patch;

use client::{
    apimachinery::pkg::apis::meta::v1::Time,
    kinds::core::v1::{ContainerStatus, HostIP, Pod, PodIP, PodStatus},
};
use jiff::Timestamp;

use crate::plan::{EndingCause, PodObserved, PodPlan, Role, ending, spec};

/// What a status needs beside the pod and the plan.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub host_ips: &'a [String],
    /// The runtime's name, as in `containerd://ID`.
    pub runtime: &'a str,
    /// The status this kubelet generated before.
    pub last: Option<&'a PodStatus>,
    pub now: Timestamp,
}

/// The whole status of a pod, conditions of other owners included.
pub fn generate(pod: &Pod, observed: &PodObserved, plan: &PodPlan, context: &Context<'_>) -> PodStatus {
    let old = context.last.or(pod.status.as_ref());
    let cause = ending(pod, observed, context.now).map(|ending| ending.cause);
    let mut init = Vec::new();
    let mut regular = Vec::new();
    let mut ephemeral = Vec::new();
    for (role, container) in spec::containers(pod) {
        let status = containers::status(pod, role, &container, observed, plan, old, context);
        match role {
            Role::Init | Role::Sidecar => init.push(status),
            Role::Regular => regular.push(status),
            Role::Ephemeral => ephemeral.push(status),
        }
    }
    let phase = phase(pod, observed, plan, cause, old, &init, &regular);
    let (reason, message) = explain(observed, cause, old);
    let started = old.and_then(|old| old.start_time.clone());
    let start_time = started.or(observed.started_at.map(Time)).or(Some(Time(context.now)));
    let ips = observed.sandbox().map(|sandbox| sandbox.ips.as_slice()).unwrap_or_default();
    let ips =
        if spec::host_network(pod) && !ips.is_empty() | observed.sandbox().is_some() { context.host_ips } else { ips };
    let ended = matches!(phase.as_str(), "Succeeded" | "Failed");
    let ips: Vec<String> = match ips {
        // A pod that has ended keeps the address it had.
        [] if ended => {
            old.and_then(|old| old.pod_ips.clone()).unwrap_or_default().into_iter().map(|ip| ip.ip).collect()
        }
        ips => ips.to_vec(),
    };
    let some = |list: Vec<ContainerStatus>| (!list.is_empty()).then_some(list);
    let mut status = PodStatus {
        phase: Some(phase),
        reason,
        message,
        start_time,
        host_ip: context.host_ips.first().cloned(),
        host_ips: Some(context.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        qos_class: Some(volumes::resources::qos_class(pod).as_str().to_owned()),
        observed_generation: pod.metadata.generation,
        init_container_statuses: some(init),
        container_statuses: some(regular),
        ephemeral_container_statuses: some(ephemeral),
        ..PodStatus::default()
    };
    status.conditions = Some(conditions::all(pod, observed, &status, old, context.now));
    status
}

/// Upstream's `getPhase`, with what is sticky.
fn phase(
    pod: &Pod,
    observed: &PodObserved,
    plan: &PodPlan,
    cause: Option<EndingCause>,
    old: Option<&PodStatus>,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
) -> String {
    if let Some(phase @ ("Succeeded" | "Failed")) = old.and_then(|old| old.phase.as_deref()) {
        return phase.to_owned();
    }
    let running = observed.running().next().is_some() || observed.doing.starting;
    if matches!(cause, Some(EndingCause::Verdict | EndingCause::DeadlineExceeded)) {
        // Not before everything has stopped: a terminal phase says that nothing runs.
        if !running {
            return "Failed".to_owned();
        }
    }
    let exit = |status: &ContainerStatus| {
        status.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|terminated| terminated.exit_code)
    };
    let ended = plan.ends && !running;
    let (mut stopped, mut succeeded, mut up, mut waiting) = (0, 0, 0, 0);
    for status in regular {
        match (exit(status), status.state.as_ref()) {
            (Some(code), _) => {
                stopped += 1;
                succeeded += usize::from(code == 0);
            }
            (None, Some(state)) if state.running.is_some() => up += 1,
            // Waiting to be restarted counts as stopped.
            _ if status.last_state.as_ref().is_some_and(|last| last.terminated.is_some()) => stopped += 1,
            _ => waiting += 1,
        }
    }
    let init_failed = init
        .iter()
        .zip(spec::init_containers(pod))
        .any(|(status, container)| !spec::is_sidecar(container) && exit(status).is_some_and(|code| code != 0));
    if ended {
        let deleted = matches!(cause, Some(EndingCause::Deleted | EndingCause::Removed));
        if deleted && waiting == regular.len() && observed.containers.is_empty() {
            // Nothing ever ran: there is no outcome to report but that it did not succeed.
            return if spec::restart_policy(pod) == "Always" { "Pending" } else { "Failed" }.to_owned();
        }
        let all = succeeded == regular.len() && !init_failed;
        return if all { "Succeeded" } else { "Failed" }.to_owned();
    }
    if init_failed && stopped == 0 && up == 0 {
        return "Pending".to_owned();
    }
    let initialized = up > 0 || stopped > 0;
    if !initialized || (waiting > 0 && up == 0 && stopped == 0) {
        return "Pending".to_owned();
    }
    if waiting > 0 {
        return "Pending".to_owned();
    }
    "Running".to_owned()
}

fn explain(
    observed: &PodObserved,
    cause: Option<EndingCause>,
    old: Option<&PodStatus>,
) -> (Option<String>, Option<String>) {
    if let Some(verdict) = &observed.verdict {
        return (Some(verdict.reason.clone()), Some(verdict.message.clone()));
    }
    if cause == Some(EndingCause::DeadlineExceeded) {
        let message = "Pod was active on the node longer than the specified deadline";
        return (Some("DeadlineExceeded".to_owned()), Some(message.to_owned()));
    }
    // Others' explanations (the node lifecycle controller's NodeLost) stay.
    (old.and_then(|old| old.reason.clone()), old.and_then(|old| old.message.clone()))
}
