//! The status of one container (upstream `convertToAPIContainerStatuses`, `convertContainerStatusToAPI`).

use client::{
    apimachinery::pkg::apis::meta::v1::Time,
    kinds::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, Pod, PodStatus,
    },
};

use super::Context;
use crate::plan::{ContainerRecord, PodObserved, PodPlan, Role, State, spec};

pub(super) fn status(
    pod: &Pod,
    role: Role,
    container: &Container,
    observed: &PodObserved,
    plan: &PodPlan,
    old: Option<&PodStatus>,
    context: &Context<'_>,
) -> ContainerStatus {
    let latest = observed.latest(&container.name);
    let previous = observed.previous(&container.name);
    let old = old.and_then(|old| find(old, &container.name));
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        ..ContainerStatus::default()
    };
    let waits = waiting(container, observed, plan);
    match latest {
        Some(record) => {
            describe(&mut status, record, context);
            status.state = Some(state(record, context));
            status.last_state =
                previous.map(|previous| state(previous, context)).filter(|state| state.terminated.is_some());
            if let Some(waits) = waits.filter(|_| !record.is_running()) {
                // It will run again: what ended becomes the last state.
                if status.state.as_ref().is_some_and(|state| state.terminated.is_some()) {
                    status.last_state = status.state.take();
                }
                status.state = Some(waits);
            }
        }
        None => {
            // The runtime forgot it (or never had it): what was reported last still holds once the pod has ended.
            let ended = old.filter(|old| old.state.as_ref().is_some_and(|state| state.terminated.is_some()));
            if let Some(ended) = ended.filter(|_| plan.ends) {
                return ended.clone();
            }
            status.restart_count = old.map_or(0, |old| old.restart_count);
            status.state = Some(waits.unwrap_or_else(|| not_started(pod, role)));
        }
    }
    let running = latest.filter(|record| record.is_running());
    let started = running.is_some_and(|record| observed.is_started(record, container.startup_probe.is_some()));
    status.started = Some(started);
    status.ready = match (role, running) {
        (Role::Init, _) => latest.and_then(ContainerRecord::exit).is_some_and(|exit| exit.code == 0),
        (_, Some(record)) if started => {
            container.readiness_probe.is_none() || observed.probed(&record.id).readiness == Some(true)
        }
        _ => false,
    };
    if let Some(record) = running {
        status.resources = observed.applied.get(&record.id).cloned().or_else(|| container.resources.clone());
        status.allocated_resources = container.resources.as_ref().and_then(|resources| resources.requests.clone());
    }
    status
}

fn find<'a>(status: &'a PodStatus, name: &str) -> Option<&'a ContainerStatus> {
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}

fn describe(status: &mut ContainerStatus, record: &ContainerRecord, context: &Context<'_>) {
    status.restart_count = i32::try_from(record.attempt).unwrap_or(i32::MAX);
    status.container_id = Some(format!("{}://{}", context.runtime, record.id));
    if !record.image.is_empty() {
        status.image = record.image.clone();
    }
    status.image_id = record.image_ref.clone();
}

fn state(record: &ContainerRecord, context: &Context<'_>) -> ContainerState {
    let mut state = ContainerState::default();
    match &record.state {
        State::Running { started_at } => {
            state.running = Some(ContainerStateRunning { started_at: Some(Time(*started_at)) });
        }
        State::Exited(exit) => {
            let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
            state.terminated = Some(ContainerStateTerminated {
                container_id: Some(format!("{}://{}", context.runtime, record.id)),
                exit_code: exit.code,
                reason: text(&exit.reason),
                message: text(&exit.message),
                started_at: Some(Time(exit.started_at)),
                finished_at: Some(Time(exit.finished_at)),
                signal: None,
            });
        }
        State::Created => state.waiting = Some(waiting_for("ContainerCreating", "")),
        State::Unknown => {
            state.terminated = Some(ContainerStateTerminated {
                container_id: Some(format!("{}://{}", context.runtime, record.id)),
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some("The container could not be located when the pod was terminated".to_owned()),
                ..ContainerStateTerminated::default()
            });
        }
    }
    state
}

fn waiting_for(reason: &str, message: &str) -> ContainerStateWaiting {
    ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()).filter(|message| !message.is_empty()),
    }
}

/// Back-off, or why the last attempt to start it failed; `None` where it does not wait for a restart.
fn waiting(container: &Container, observed: &PodObserved, plan: &PodPlan) -> Option<ContainerState> {
    let waiting = if let Some(waiting) = plan.waiting.get(&container.name) {
        waiting_for(&waiting.reason, &waiting.message)
    } else if let Some(failure) = observed.failures.get(&container.name).filter(|_| !plan.ends) {
        waiting_for(failure.reason, &failure.message)
    } else {
        return None;
    };
    Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() })
}

/// Before the first instance.
fn not_started(pod: &Pod, role: Role) -> ContainerState {
    let has_init = !spec::init_containers(pod).is_empty();
    let reason = if has_init && role != Role::Ephemeral { "PodInitializing" } else { "ContainerCreating" };
    ContainerState { waiting: Some(waiting_for(reason, "")), ..ContainerState::default() }
}
