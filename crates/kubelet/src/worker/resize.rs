//! Gives running containers other resources (upstream `kuberuntime_manager.go: doPodResizeAction`).

use client::{
    EventType,
    kinds::core::v1::{Pod, ResourceRequirements},
};

use super::{Node, PodWorker, act::Done};
use crate::{
    allocation::{self, Allocation},
    cgroups::{CgroupError, Resources, math},
    config::resources,
    cri::RuntimeError,
    plan::spec,
};

#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    #[error("attempting to set container {container:?} memory limit ({limit}) below current usage ({usage})")]
    BelowUsage { container: String, limit: i64, usage: u64 },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// One container with the resources it has had so far.
#[derive(Clone, Debug)]
pub struct Part {
    pub id: String,
    pub container: String,
    pub before: ResourceRequirements,
}

/// The pod's cgroup grows before its containers do, and shrinks after them.
pub(super) async fn run(node: &Node, pod: &Pod, parts: &[Part]) -> Result<(), ResizeError> {
    check_usage(node, pod, parts).await?;
    let before: Allocation = parts.iter().map(|part| (part.container.clone(), part.before.clone())).collect();
    let old = math::pod_resources(&allocation::applied(pod, &before), &node.enforcement);
    let new = lifted(&old, math::pod_resources(pod, &node.enforcement));
    if let Some(cgroups) = &node.cgroups {
        cgroups.update_pod(pod, larger(&old, &new)).await?;
    }
    let facts = node.facts();
    for part in parts {
        let Some((_, container)) = spec::find(pod, &part.container) else { continue };
        let mut linux = resources::linux(pod, &container, facts.memory_capacity);
        if linux.cpu_quota == 0 {
            // In an update zero leaves the quota as it is.
            linux.cpu_quota = -1;
        }
        node.runtime.update_container_resources(&part.id, &linux).await?;
    }
    if let Some(cgroups) = &node.cgroups {
        cgroups.update_pod(pod, new).await?;
    }
    Ok(())
}

/// The kernel would kill a container that uses more than it is to have.
async fn check_usage(node: &Node, pod: &Pod, parts: &[Part]) -> Result<(), ResizeError> {
    let falling = parts.iter().filter_map(|part| {
        let (_, container) = spec::find(pod, &part.container)?;
        let limit = allocation::falling_memory_limit(&part.before, container.resources.as_ref()?)?;
        Some((part, limit))
    });
    let falling: Vec<_> = falling.collect();
    if falling.is_empty() {
        return Ok(());
    }
    let stats = node.runtime.list_container_stats().await?;
    for (part, limit) in falling {
        let own = stats.iter().find(|stats| stats.attributes.as_ref().is_some_and(|own| own.id == part.id));
        let memory = own.and_then(|stats| stats.memory.as_ref());
        let usage =
            memory.and_then(|memory| memory.usage_bytes.or(memory.working_set_bytes)).map_or(0, |value| value.value);
        if usage >= limit.unsigned_abs() {
            return Err(ResizeError::BelowUsage { container: part.container.clone(), limit, usage });
        }
    }
    Ok(())
}

/// A limit that is taken away has to be lifted; leaving it out would keep it.
fn lifted(old: &Resources, new: Resources) -> Resources {
    Resources {
        cpu_quota_us: new.cpu_quota_us.or(old.cpu_quota_us.map(|_| -1)),
        memory_bytes: new.memory_bytes.or(old.memory_bytes.map(|_| -1)),
        ..new
    }
}

/// Room for both; "no limit" (zero, less, or none) is more than any.
fn larger(a: &Resources, b: &Resources) -> Resources {
    let limit = |a: Option<i64>, b: Option<i64>| match (a, b) {
        (Some(a), Some(b)) if a > 0 && b > 0 => Some(a.max(b)),
        _ => Some(-1),
    };
    Resources {
        cpu_shares: a.cpu_shares.max(b.cpu_shares),
        cpu_quota_us: limit(a.cpu_quota_us, b.cpu_quota_us),
        memory_bytes: limit(a.memory_bytes, b.memory_bytes),
        cpu_period_us: b.cpu_period_us.or(a.cpu_period_us),
        pids: None,
    }
}

impl PodWorker {
    pub(super) fn resize_parts(&self, containers: &[(String, String)]) -> Vec<Part> {
        let part = |(id, container): &(String, String)| Part {
            id: id.clone(),
            container: container.clone(),
            before: self.observed.applied.get(id).cloned().unwrap_or_default(),
        };
        containers.iter().map(part).collect()
    }

    /// `pod`: the one whose resources were applied, which may be an older version by now.
    pub(super) fn resized(&mut self, pod: &Pod, parts: &[Part], result: Result<(), ResizeError>) {
        self.observed.doing.resizing = false;
        if let Err(error) = result {
            let message = error.to_string();
            self.event(EventType::Warning, None, "ResizeError", allocation::describe("error", pod, &message));
            let now = self.node.clock.now();
            super::act::fail(&mut self.observed.resize_failure, "Error", message, now);
            return;
        }
        self.observed.resize_failure = None;
        for part in parts {
            if let Some((_, container)) = spec::find(pod, &part.container) {
                self.observed.applied.insert(part.id.clone(), container.resources.clone().unwrap_or_default());
            }
        }
        self.event(EventType::Normal, None, "ResizeCompleted", allocation::describe("completed", pod, ""));
    }

    /// What containers have that this kubelet did not start: what their status says, else what the pod was given.
    pub(super) fn recall_resources(&mut self) {
        for record in self.observed.containers.iter().filter(|record| record.is_running()) {
            let status = self.pod.status.as_ref();
            let lists = status.map(|status| [&status.container_statuses, &status.init_container_statuses]);
            let mut statuses = lists.into_iter().flatten().flat_map(|list| list.iter().flatten());
            let own = statuses.find(|status| status.container_id.as_deref().is_some_and(|id| id.ends_with(&record.id)));
            let reported = own.and_then(|status| status.resources.clone());
            let given = || spec::find(&self.pod, &record.name).and_then(|(_, container)| container.resources.clone());
            let resources = reported.or_else(given).unwrap_or_default();
            self.observed.applied.entry(record.id.clone()).or_insert(resources);
        }
    }

    pub(super) fn start_resize(&mut self, step: crate::plan::Step, containers: &[(String, String)]) {
        self.observed.doing.resizing = true;
        let (node, pod, parts) = (self.node.clone(), self.pod.clone(), self.resize_parts(containers));
        self.beside(step, async move {
            let result = run(&node, &pod, &parts).await;
            Done::Resized { pod, parts, result }
        });
    }
}
