//! What the runtime already runs when the kubelet starts, and regular listings of it: the safety net below events.

use std::{collections::HashMap, sync::Arc, time::Duration};

use client::{
    Clock,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    kinds::core::v1::{Container, Lifecycle, Pod, PodSpec},
};
use futures_util::{StreamExt, future::try_join_all};
use jiff::Timestamp;
use k8s_cri::v1::{ContainerStatus, PodSandboxState, PodSandboxStatus};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    config::names,
    cri::{Runtime, RuntimeError, RuntimeEvent},
    manager::{Change, Listing},
    plan::PodObserved,
    worker::{Node, container_record, sandbox_record},
};

/// How often everything is listed: seldom where events tell of changes, upstream's one second where nothing does.
const LIST_WITH_EVENTS: Duration = Duration::from_secs(30);
const LIST_WITHOUT_EVENTS: Duration = Duration::from_secs(1);

/// Every pod the runtime has, with its records, by UID.
pub async fn find(runtime: &dyn Runtime) -> Result<HashMap<String, (Pod, PodObserved)>, RuntimeError> {
    let (sandboxes, containers) = tokio::try_join!(runtime.list_pod_sandboxes(), runtime.list_containers())?;
    let sandbox_statuses = try_join_all(sandboxes.iter().map(|sandbox| runtime.pod_sandbox_status(&sandbox.id)));
    let container_statuses = try_join_all(containers.iter().map(|container| runtime.container_status(&container.id)));
    let (sandbox_statuses, container_statuses) = tokio::try_join!(sandbox_statuses, container_statuses)?;
    let mut found: HashMap<String, (Pod, PodObserved)> = HashMap::new();
    for status in &sandbox_statuses {
        let Some(uid) = status.labels.get(names::POD_UID) else { continue };
        let (_, observed) = found.entry(uid.clone()).or_insert_with(|| (pod_of(status), PodObserved::default()));
        observed.sandboxes.push(sandbox_record(status));
    }
    for (container, status) in containers.iter().zip(&container_statuses) {
        let Some(uid) = status.labels.get(names::POD_UID) else { continue };
        // A container whose sandbox is gone is a remnant that goes with its pod.
        let entry = found.entry(uid.clone()).or_insert_with(|| (Pod::default(), PodObserved::default()));
        if entry.0.metadata.uid.is_none() {
            entry.0 = pod_of_labels(&status.labels);
        }
        add_container(&mut entry.0, status);
        entry.1.containers.push(container_record(status, Some(&container.pod_sandbox_id)));
    }
    for (_, observed) in found.values_mut() {
        observed.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
    }
    Ok(found)
}

fn pod_of(status: &PodSandboxStatus) -> Pod {
    pod_of_labels(&status.labels)
}

/// As much of a pod as is needed to end it when nobody knows it any more.
fn pod_of_labels(labels: &HashMap<String, String>) -> Pod {
    let label = |key: &str| labels.get(key).cloned();
    Pod {
        metadata: ObjectMeta {
            name: label(names::POD_NAME),
            namespace: label(names::POD_NAMESPACE),
            uid: label(names::POD_UID),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec::default()),
        status: None,
    }
}

fn add_container(pod: &mut Pod, status: &ContainerStatus) {
    let Some(spec) = pod.spec.as_mut() else { return };
    let name = status.labels.get(names::CONTAINER_NAME).cloned().unwrap_or_default();
    if let Some(grace) = status.annotations.get(names::GRACE).and_then(|text| text.parse().ok()) {
        spec.termination_grace_period_seconds = Some(grace);
    }
    if spec.containers.iter().any(|container| container.name == name) {
        return;
    }
    let hook = status.annotations.get(names::PRE_STOP).and_then(|json| serde_json::from_str(json).ok());
    spec.containers.push(Container {
        name,
        lifecycle: Some(Lifecycle { pre_stop: hook, ..Lifecycle::default() }),
        ..Container::default()
    });
}

/// Lists everything by pod.
async fn list(runtime: &dyn Runtime) -> Result<HashMap<String, Listing>, RuntimeError> {
    let (sandboxes, containers) = tokio::try_join!(runtime.list_pod_sandboxes(), runtime.list_containers())?;
    let mut listing: HashMap<String, Listing> = HashMap::new();
    for sandbox in sandboxes {
        let Some(uid) = sandbox.labels.get(names::POD_UID) else { continue };
        let ready = sandbox.state == PodSandboxState::SandboxReady as i32;
        listing.entry(uid.clone()).or_default().sandboxes.push((sandbox.id, ready));
    }
    for container in containers {
        let Some(uid) = container.labels.get(names::POD_UID) else { continue };
        listing.entry(uid.clone()).or_default().containers.push((container.id, container.state));
    }
    Ok(listing)
}

/// Hands the runtime's events to the workers, and listings to the manager, until `cancel`.
pub async fn watch(
    node: Arc<Node>,
    clock: Arc<dyn Clock>,
    changes: mpsc::UnboundedSender<Change>,
    cancel: CancellationToken,
) {
    let relist = async |node: &Node| -> bool {
        let since: Timestamp = clock.now();
        match list(&*node.runtime).await {
            Ok(listing) => changes.send(Change::Listed { listing, since }).is_ok(),
            Err(error) => {
                tracing::warn!(%error, "cannot list the runtime's containers");
                true
            }
        }
    };
    let work = async {
        loop {
            let mut events = match node.runtime.events().await {
                Ok(events) => Some(events),
                Err(RuntimeError::Unimplemented { .. }) => None,
                Err(error) => {
                    tracing::debug!(%error, "no events from the runtime");
                    None
                }
            };
            let every = if events.is_some() { LIST_WITH_EVENTS } else { LIST_WITHOUT_EVENTS };
            // What happened before the subscription is in this listing.
            if !relist(&node).await {
                return;
            }
            let mut rounds = 0;
            let mut list_at = Instant::now() + every;
            loop {
                let next = async {
                    match events.as_mut() {
                        Some(events) => events.next().await,
                        None => std::future::pending().await,
                    }
                };
                match tokio::time::timeout_at(list_at, next).await {
                    Ok(Some(Ok(RuntimeEvent::Exited { id } | RuntimeEvent::Changed { id }))) => node.exited(&id),
                    Ok(Some(Err(_)) | None) => break,
                    Err(_) => {
                        if !relist(&node).await {
                            return;
                        }
                        rounds += 1;
                        list_at = Instant::now() + every;
                        // A runtime that was restarted may offer events by now.
                        if events.is_none() && rounds >= 10 {
                            break;
                        }
                    }
                }
            }
            // A stream that breaks at once must not become a busy loop.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    cancel.run_until_cancelled(work).await;
}

/// Removes what pods that are gone left on disk and among the cgroups. `known`: the pods that are here.
pub async fn clean(node: Arc<Node>, known: std::collections::BTreeSet<String>) {
    match node.volumes.pods_on_disk().await {
        Ok(uids) => {
            for uid in uids.iter().filter(|uid| !known.contains(*uid)) {
                let torn_down = node.volumes.tear_down(uid).await;
                let removed = match torn_down {
                    Ok(()) => node.volumes.remove_pod(uid).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = removed {
                    tracing::warn!(uid, %error, "cannot remove what a pod left behind");
                }
            }
        }
        Err(error) => tracing::warn!(%error, "cannot list pods on disk"),
    }
    let Some(cgroups) = &node.cgroups else { return };
    for (uid, name) in cgroups.pods_on_node() {
        if !known.contains(&uid)
            && let Err(error) = cgroups.remove(&name).await
        {
            tracing::warn!(uid, %error, "cannot remove a cgroup that a pod left behind");
        }
    }
}
