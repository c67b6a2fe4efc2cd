//! Bringing running containers to the resources their pod was given (upstream `kuberuntime_manager.go:
//! computePodResizeAction`).

use client::kinds::core::v1::{Container, Pod};

use super::{ContainerRecord, Planner, PodObserved, Step, spec};
use crate::allocation::difference;

/// What it takes to bring a running instance to its resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    Update,
    Restart,
}

pub(super) fn action(container: &Container, record: &ContainerRecord, observed: &PodObserved) -> Action {
    let Some(has) = observed.applied.get(&record.id) else { return Action::None };
    let changed = difference(has, &container.resources.clone().unwrap_or_default());
    let policies = container.resize_policy.as_deref().unwrap_or_default();
    let restarts = |name: &&str| {
        policies.iter().any(|rule| rule.resource_name == *name && rule.restart_policy == "RestartContainer")
    };
    match changed.as_slice() {
        [] => Action::None,
        changed if changed.iter().any(restarts) => Action::Restart,
        _ => Action::Update,
    }
}

/// Running instances that do not have their resources yet.
pub fn unresized<'a>(pod: &Pod, observed: &'a PodObserved) -> Vec<&'a ContainerRecord> {
    let differs = |record: &&ContainerRecord| {
        let container = spec::find(pod, &record.name);
        container.is_some_and(|(_, container)| action(&container, record, observed) != Action::None)
    };
    observed.running().filter(differs).collect()
}

impl Planner<'_> {
    pub(super) fn resize(&mut self) {
        if self.observed.doing.resizing {
            return;
        }
        let wanted = unresized(self.pod, self.observed).into_iter().filter(|record| {
            let container = spec::find(self.pod, &record.name);
            container.is_some_and(|(_, container)| action(&container, record, self.observed) == Action::Update)
        });
        let containers: Vec<_> = wanted.map(|record| (record.id.clone(), record.name.clone())).collect();
        let failure = self.observed.resize_failure.clone();
        if !containers.is_empty() && !self.held_back(failure.as_ref()) {
            self.push(Step::Resize { containers });
        }
    }
}
