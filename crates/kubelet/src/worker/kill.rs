//! Stopping a container: event, preStop, stop signal, SIGKILL (upstream `killContainer`), and what a pod leaves behind.

use std::time::{Duration, Instant};

use client::{
    EventType,
    kinds::core::v1::{Container, Pod},
};
use k8s_cri::v1::ContainerStatus;

use super::Node;
use crate::{
    config::names,
    cri::RuntimeError,
    plan::{KillCause, spec},
    probes::{Target, check},
};

/// Upstream's `minimumGracePeriodInSeconds`.
const MIN_GRACE: Duration = Duration::from_secs(2);

pub(super) struct Kill {
    pub id: String,
    pub container: String,
    /// For hook and signal together.
    pub grace_seconds: i64,
    pub cause: KillCause,
    pub address: String,
}

impl Kill {
    /// Gives back the container's status after its end.
    pub async fn run(&self, node: &Node, pod: &Pod) -> Result<ContainerStatus, RuntimeError> {
        let message = match self.cause {
            KillCause::PodEnds => format!("Stopping container {}", self.container),
            cause => format!("Container {} {cause}, will be restarted", self.container),
        };
        node.event(pod, Some(&self.container), EventType::Normal, "Killing", message);
        let grace = Duration::from_secs(self.grace_seconds.max(0).unsigned_abs());
        let begun = Instant::now();
        if let Some((_, container)) = spec::find(pod, &self.container) {
            self.pre_stop(node, pod, &container, grace).await;
        }
        let left = grace.saturating_sub(begun.elapsed()).max(MIN_GRACE);
        match node.runtime.stop_container(&self.id, left).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let message =
                    format!("error killing pod: failed to \"KillContainer\" for {:?}: {error}", self.container);
                node.event(pod, Some(&self.container), EventType::Warning, "FailedKillPod", message);
                // Tried again by the next plan, but not at once.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        node.runtime.container_status(&self.id).await
    }

    async fn pre_stop(&self, node: &Node, pod: &Pod, container: &Container, grace: Duration) {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let Some(hook) = hook.filter(|_| !grace.is_zero()) else { return };
        let target = Target { id: self.id.clone(), container: container.clone(), address: self.address.clone() };
        let outcome = tokio::time::timeout(grace, check::hook(&*node.runtime, hook, &target, grace)).await;
        let failed = match outcome {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => format!("PreStopHook failed: {error}"),
            Err(_) => "PreStopHook failed: it did not return within the grace period".to_owned(),
        };
        node.event(pod, Some(&self.container), EventType::Warning, "FailedPreStopHook", failed);
    }
}

/// The pod's cgroup. True when nothing is left to remove.
pub(super) async fn remove_cgroup(node: &Node, pod: &Pod) -> bool {
    let Some(cgroups) = &node.cgroups else { return true };
    let removed = match cgroups.pod(pod) {
        Ok(name) => cgroups.remove(&name).await,
        Err(error) => Err(error),
    };
    match removed {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(pod = pod.metadata.name, %error, "cannot remove cgroup");
            tokio::time::sleep(Duration::from_secs(1)).await;
            false
        }
    }
}

/// What a pod that is gone leaves on disk: its directory and its logs.
pub(super) async fn remove_files(node: &Node, pod: &Pod) {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if let Err(error) = node.volumes.remove_pod(uid).await {
        tracing::warn!(uid, %error, "cannot remove the pod's directory");
    }
    let logs = names::pod_log_dir(&node.facts().pod_logs, pod);
    match tokio::fs::remove_dir_all(&logs).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(uid, %error, "cannot remove the pod's logs");
        }
        _ => {}
    }
}
